#include "vision/engine/trainer.h"

#include "vision/base/error.h"
#include "vision/base/log.h"
#include "vision/base/stopwatch.h"
#include "vision/engine/checkpoint.h"

#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <set>
#include <sstream>
#include <vector>

#include <ATen/Context.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <torch/nn/modules/linear.h>
#include <unistd.h>

namespace comba::vision {
namespace {
namespace fs = std::filesystem;

struct Net : torch::nn::Module {
  Net() {
    first = register_module("first", torch::nn::Linear(6, 16));
    second = register_module("second", torch::nn::Linear(16, 1));
  }
  at::Tensor forward(const at::Tensor& x) {
    at::Tensor hidden = first->forward(x).tanh();
    if (is_training()) {  // drawn from LibTorch's generator, like drop path
      hidden = hidden * at::rand(hidden.sizes()).gt(0.2).to(at::kFloat);
    }
    return second->forward(hidden);
  }
  torch::nn::Linear first{nullptr}, second{nullptr};
};

// Fits y = sum(x) on inputs that are a function of (epoch, step) alone, like the loader's.
class Regression : public Task {
 public:
  Regression() {
    at::manual_seed(5);
    net_ = std::make_shared<Net>();
  }
  torch::nn::Module& model() override { return *net_; }
  int64_t steps_per_epoch() const override { return steps; }
  int64_t batch_size() const override { return 8; }
  void start_epoch(int64_t epoch, int64_t first_step) override {
    epoch_ = epoch;
    step_ = first_step;
  }
  std::vector<torch::Tensor> next_batch() override {
    const int64_t now = epoch_ * steps_per_epoch() + step_++;
    if (before_step) {
      before_step(now);
    }
    const at::Tensor x = (at::full({8, 6}, static_cast<double>(now)) * 0.37 + phase()).sin();
    now_ = now;
    const float factor = nan_steps.contains(now) ? std::numeric_limits<float>::quiet_NaN()
                         : now == spike_step     ? 1e3F
                                                 : 1.F;
    return {x, at::full({8}, factor)};
  }
  std::vector<std::string> batch_names() const override {
    std::vector<std::string> names;
    for (int i = 0; i < 8; ++i) {
      names.push_back(fmt::format("sample {}.{}", now_, i));
    }
    return names;
  }
  torch::Tensor loss(const std::vector<torch::Tensor>& batch) override {
    const at::Tensor& x = batch[0];
    return (net_->forward(x) - x.sum(1, true)).square().mean() * batch[1].mean();
  }
  Metrics evaluate() override {
    ++evaluations;
    COMBA_CHECK(!evaluation_fails, "evaluating: an image cannot be read");
    const at::NoGradGuard no_grad;
    const at::Tensor x = phase().sin();
    const double error = (net_->forward(x) - x.sum(1, true)).square().mean().item<double>();
    return {{"error", error}, {"score", -error}};
  }
  std::string primary_metric() const override { return "score"; }
  std::string data_fingerprint() const override { return fingerprint; }
  std::map<std::string, std::string> weights_metadata() const override {
    return {{"format", "pt"}};
  }

  // As if a quarter of a thread's time so far went into reading, and none of it was waited for.
  Metrics data_stage_seconds() const override {
    return knows_stages ? Metrics{{"read", 0.25 * clock_.seconds()}} : Metrics{};
  }

  std::function<void(int64_t)> before_step;
  bool knows_stages = false;
  std::set<int64_t> nan_steps;
  int64_t spike_step = -1, steps = 10;
  bool evaluation_fails = false;
  int evaluations = 0;
  std::string fingerprint = "data-1";

 private:
  static at::Tensor phase() { return at::full({48}, 1.0).cumsum(0).view({8, 6}); }
  std::shared_ptr<Net> net_;
  Stopwatch clock_;
  int64_t epoch_ = 0, step_ = 0, now_ = 0;
};

class TrainerTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() /
              fmt::format("comba_trainer_{}_{}", getpid(),
                          testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    options_.epochs = 4;
    options_.lr = 0.01;
    options_.warmup_epochs = 1;
    options_.ema_decay = 0.9;
    options_.log_every = 4;
    options_.threads = 1;
    previous_ = log::set_sink(
        [this](log::Level, std::string_view line) { log_ += std::string(line) + "\n"; });
  }
  void TearDown() override {
    log::set_sink(previous_);
    fs::remove_all(folder_);
  }
  RunOptions run(const char* name, bool resume = false) const {
    return {.folder = folder_ / name,
            .title = "test",
            .config = "[train]\n",
            .seed = 0,
            .resume = resume};
  }
  std::string contents(const fs::path& path) const {
    std::ifstream file(folder_ / path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  void expect_same_weights(const char* a, const char* b) const {
    const LoadedCheckpoint first = load_checkpoint(folder_ / a / "checkpoints" / "last");
    const LoadedCheckpoint second = load_checkpoint(folder_ / b / "checkpoints" / "last");
    EXPECT_EQ(first.state.step, second.state.step);
    EXPECT_EQ(first.state.best_metric, second.state.best_metric);
    EXPECT_EQ(first.state.best_epoch, second.state.best_epoch);
    const auto same = [](const auto& left, const auto& right) {
      ASSERT_EQ(left.size(), right.size());
      for (const auto& [name, tensor] : left) {
        EXPECT_TRUE(tensor.equal(right.at(name))) << name;
      }
    };
    same(first.model, second.model);
    same(first.ema, second.ema);
    same(first.optimizer, second.optimizer);
  }

  fs::path folder_;
  TrainOptions options_;
  std::string log_;
  log::Sink previous_;
};

TEST_F(TrainerTest, LowersTheLossAndLeavesTheFilesOfARun) {
  Regression task;
  const double before = task.evaluate()[0].second;
  const TrainResult result = train(task, options_, run("a"));
  EXPECT_EQ(result.steps, 40);
  EXPECT_EQ(result.signal, 0);
  EXPECT_LT(result.last[0].second, 0.5 * before);
  for (const char* file : {"config.toml", "results.csv", "metrics.jsonl", "report.html"}) {
    EXPECT_GT(fs::file_size(folder_ / "a" / file), 0U) << file;
  }
  EXPECT_EQ(load_checkpoint(folder_ / "a" / "checkpoints" / "last").state.step, 40);
  EXPECT_EQ(load_checkpoint(folder_ / "a" / "checkpoints" / "best").state.best_metric,
            result.best_metric);
  EXPECT_NE(contents("a/results.csv").find("ema_score"), std::string::npos);
}

TEST_F(TrainerTest, LogAndReportShowWhatTheStagesOfLoadingTake) {
  Regression task;
  task.knows_stages = true;
  train(task, options_, run("a"));
  EXPECT_NE(log_.find("data wait 0.0 % (read 25 %)"), std::string::npos) << log_;
  EXPECT_NE(contents("a/metrics.jsonl").find(R"("data_stages":{"read":0.2)"), std::string::npos)
      << contents("a/metrics.jsonl");
  EXPECT_NE(contents("a/report.html").find("data loading"), std::string::npos);
  task.knows_stages = false;
  train(task, options_, run("b"));
  EXPECT_NE(log_.find("data wait 0.0 %  ETA"), std::string::npos) << log_;
}

TEST_F(TrainerTest, KeepsTheAskedNumberOfStepCheckpoints) {
  Regression task;
  options_.keep = 1;
  train(task, options_, run("a"));
  int steps = 0;
  for (const auto& entry : fs::directory_iterator(folder_ / "a" / "checkpoints")) {
    steps += entry.path().filename().string().starts_with("step-") ? 1 : 0;
  }
  EXPECT_EQ(steps, 1);
}

TEST_F(TrainerTest, ASignalSavesAndAResumedRunEndsWithTheSameBits) {
  Regression straight;
  train(straight, options_, run("straight"));
  for (const int64_t stop : {0, 13, 19, 20, 38}) {
    const std::string name = fmt::format("stopped{}", stop);
    Regression first;
    first.before_step = [&](int64_t step) {
      if (step == stop) {
        raise(SIGTERM);
      }
    };
    const TrainResult stopped = train(first, options_, run(name.c_str()));
    EXPECT_EQ(stopped.signal, SIGTERM);
    EXPECT_EQ(stopped.steps, stop + 1);
    Regression second;
    at::manual_seed(99);  // the generator's state must come from the checkpoint
    const TrainResult resumed = train(second, options_, run(name.c_str(), true));
    EXPECT_EQ(resumed.signal, 0);
    EXPECT_EQ(resumed.steps, 40);
    expect_same_weights("straight", name.c_str());
  }
}

TEST_F(TrainerTest, ARunCutByMaxStepsAndContinuedIsTheRunThatWasNeverCut) {
  Regression straight;
  train(straight, options_, run("straight"));
  Regression first;
  options_.max_steps = 25;
  EXPECT_EQ(train(first, options_, run("cut")).steps, 25);
  options_.max_steps = 0;
  Regression second;
  EXPECT_EQ(train(second, options_, run("cut", true)).steps, 40);
  const LoadedCheckpoint a = load_checkpoint(folder_ / "straight/checkpoints/last");
  const LoadedCheckpoint b = load_checkpoint(folder_ / "cut/checkpoints/last");
  for (const auto& [name, tensor] : a.model) {
    EXPECT_TRUE(tensor.equal(b.model.at(name))) << name;
  }
  // One row per epoch, though the third was written twice.
  const std::string results = contents("cut/results.csv");
  EXPECT_EQ(std::count(results.begin(), results.end(), '\n'), 5) << results;
}

TEST_F(TrainerTest, AKilledRunResumesFromItsLastCheckpointWithTheSameBits) {
  Regression straight;
  train(straight, options_, run("straight"));
  options_.checkpoint_every = 4;
  Regression first;
  first.before_step = [](int64_t step) {
    if (step == 27) {
      throw Error("the process dies here");
    }
  };
  EXPECT_THROW(train(first, options_, run("killed")), Error);
  Regression second;
  train(second, options_, run("killed", true));
  EXPECT_NE(log_.find("step 24 of 40"), std::string::npos) << log_;
  expect_same_weights("straight", "killed");
}

TEST_F(TrainerTest, ARunKilledBeforeItsLastCheckpointGotItsNamesHasThemOnceResumed) {
  options_.epochs = 2;
  options_.checkpoint_every = 5;
  Regression first;
  train(first, options_, run("killed"));
  const fs::path folder = folder_ / "killed/checkpoints";
  const CheckpointState newest = verify_checkpoint(folder / "step-20");
  ASSERT_EQ(newest.best_epoch, 1);
  link_checkpoint(folder / "step-15", folder / "last");
  link_checkpoint(folder / "step-15", folder / "best");
  for (const bool without_best : {false, true}) {
    if (without_best) {
      fs::remove_all(folder / "best");
    }
    Regression again;
    train(again, options_, run("killed", true));
    for (const char* name : {"last", "best"}) {
      const CheckpointState state = verify_checkpoint(folder / name);
      EXPECT_EQ(state.step, 20) << name;
      EXPECT_EQ(state.best_metric, newest.best_metric) << name;
    }
  }
}

TEST_F(TrainerTest, ResumingInTheMiddleOfAnEpochLeavesTheBestWhatItIs) {
  options_.max_steps = 5;  // the best so far, as long as nothing else is evaluated
  Regression first;
  train(first, options_, run("cut"));
  const fs::path best = folder_ / "cut/checkpoints/best";
  const CheckpointState cut = verify_checkpoint(best);
  ASSERT_EQ(cut.step, 5);
  options_.max_steps = 0;
  options_.checkpoint_every = 2;
  for (const int64_t last : {8, 9}) {
    Regression killed;
    killed.before_step = [&](int64_t step) {
      if (step == last) {
        throw Error("the process dies here");
      }
    };
    EXPECT_THROW(train(killed, options_, run("cut", true)), Error);
    EXPECT_EQ(verify_checkpoint(best).step, 5);
  }
  EXPECT_NE(log_.find("step 8 of 40"), std::string::npos) << log_;
}

TEST_F(TrainerTest, AFailedEvaluationLosesNothingOfItsEpoch) {
  Regression straight;
  train(straight, options_, run("straight"));
  Regression first;
  first.before_step = [&](int64_t step) { first.evaluation_fails = step >= 30; };
  EXPECT_THROW(train(first, options_, run("failed")), Error);
  Regression second;
  second.before_step = [](int64_t step) { FAIL() << "step " << step << " was lost"; };
  const TrainResult resumed = train(second, options_, run("failed", true));
  EXPECT_EQ(resumed.steps, 40);
  EXPECT_EQ(second.evaluations, 2);  // averaged and raw weights
  expect_same_weights("straight", "failed");
}

TEST_F(TrainerTest, AStepThatIsNotFiniteIsLeftOutAndCounted) {
  Regression broken;  // each seeds the generator that its training draws from
  broken.nan_steps = {17};
  options_.ema_decay = 0.0;
  options_.max_steps = 18;  // the broken step is the last one
  train(broken, options_, run("broken"));
  EXPECT_NE(log_.find("1 of the last steps were skipped"), std::string::npos) << log_;
  options_.max_steps = 17;
  Regression sound;
  train(sound, options_, run("sound"));
  const LoadedCheckpoint with = load_checkpoint(folder_ / "broken/checkpoints/last");
  const LoadedCheckpoint without = load_checkpoint(folder_ / "sound/checkpoints/last");
  for (const auto& [name, tensor] : with.model) {
    EXPECT_TRUE(tensor.equal(without.model.at(name))) << name;
  }
  EXPECT_NE(contents("broken/metrics.jsonl").find("\"skipped\":1"), std::string::npos);
  // The mean is that of the other steps.
  EXPECT_EQ(contents("broken/results.csv").find("nan"), std::string::npos);
}

TEST_F(TrainerTest, ManyStepsInARowThatAreNotFiniteEndTheRunAndLeaveTheirBatch) {
  Regression task;
  task.nan_steps = {15, 16, 17};
  options_.max_skipped = 3;
  std::string message;
  try {
    train(task, options_, run("a"));
  } catch (const Error& error) {
    message = error.what();
  }
  EXPECT_NE(message.find("3 steps in a row, 16 to 18"), std::string::npos) << message;
  EXPECT_NE(message.find("gradient of first.weight"), std::string::npos) << message;
  // Nothing is lost: the state behind these steps is saved, and the first of them is there to be looked at.
  EXPECT_EQ(load_checkpoint(folder_ / "a/checkpoints/last").state.step, 18);
  const std::string report = contents("a/failed-step-16/report.txt");
  EXPECT_NE(report.find("epoch 2, batch 6"), std::string::npos) << report;
  EXPECT_NE(report.find("sample 15.0"), std::string::npos) << report;
  const auto batch = load_safetensors(folder_ / "a/failed-step-16/batch.safetensors").tensors;
  EXPECT_TRUE(batch.at("input1").isnan().all().item<bool>());
  EXPECT_TRUE(fs::exists(folder_ / "a/failed-step-16/model.safetensors"));

  Regression again;
  const TrainResult result = train(again, options_, run("a", /*resume=*/true));
  EXPECT_EQ(result.steps, 40);
}

TEST_F(TrainerTest, WithoutABoundStepsThatAreNotFiniteNeverEndTheRun) {
  Regression task;
  for (int64_t step = 5; step < 40; ++step) {
    task.nan_steps.insert(step);
  }
  options_.max_skipped = 0;
  EXPECT_EQ(train(task, options_, run("a")).steps, 40);
}

TEST_F(TrainerTest, AJumpOfTheLossIsWarnedOf) {
  Regression task;
  task.steps = 200;
  task.spike_step = 150;
  options_.epochs = 1;
  options_.lr = 0;
  options_.warmup_lr = 0;
  train(task, options_, run("a"));
  EXPECT_NE(log_.find("the loss of step 151 was"), std::string::npos) << log_;
}

TEST_F(TrainerTest, LeavesEventFilesForTensorBoardUnlessTheyAreTurnedOff) {
  Regression with, without;
  options_.max_steps = 5;
  train(with, options_, run("with"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_ / "with/tensorboard"), {}), 1);
  options_.tensorboard = false;
  train(without, options_, run("without"));
  EXPECT_FALSE(fs::exists(folder_ / "without/tensorboard"));
}

TEST_F(TrainerTest, RefusesToResumeWithOtherData) {
  Regression first;
  options_.max_steps = 12;
  train(first, options_, run("a"));
  Regression second;
  second.fingerprint = "data-2";
  options_.max_steps = 0;
  try {
    train(second, options_, run("a", true));
    FAIL() << "other data was accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("data-2"), std::string::npos) << error.what();
  }
}

TEST_F(TrainerTest, ResumesFromAnOlderCheckpointWhenTheNewestIsDamaged) {
  Regression straight;
  train(straight, options_, run("straight"));
  Regression first;
  options_.max_steps = 30;
  train(first, options_, run("a"));
  // last and best may share the damaged file with step-30.
  std::fstream file(folder_ / "a/checkpoints/step-30/model.safetensors",
                    std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-7, std::ios::end);
  file.put('\x55');
  file.close();
  options_.max_steps = 0;
  Regression second;
  train(second, options_, run("a", true));
  EXPECT_NE(log_.find("model.safetensors is damaged"), std::string::npos) << log_;
  EXPECT_NE(log_.find("step 20 of 40"), std::string::npos) << log_;
  expect_same_weights("straight", "a");
}

TEST_F(TrainerTest, GoesOnWhenACheckpointCannotBeWrittenAndFailsLoudlyAtTheEnd) {
  Regression task;
  const fs::path checkpoints = folder_ / "a" / "checkpoints";
  task.before_step = [&](int64_t step) {
    if (step == 15) {  // a file where the folder should be: nothing below it can be written
      fs::remove_all(checkpoints);
      std::ofstream(checkpoints.string()) << "in the way";
    }
  };
  try {
    train(task, options_, run("a"));
    FAIL() << "the missing last checkpoint went unnoticed";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("step 40"), std::string::npos) << error.what();
  }
  EXPECT_NE(log_.find("Training goes on"), std::string::npos) << log_;
}

TEST_F(TrainerTest, EvaluatesAsOftenAsAskedAndAlwaysAtTheEnd) {
  Regression task;
  options_.ema_decay = 0.0;
  options_.eval_every = 3;
  train(task, options_, run("a"));
  EXPECT_EQ(task.evaluations, 2);  // after epochs 3 and 4
}

}  // namespace
}  // namespace comba::vision
