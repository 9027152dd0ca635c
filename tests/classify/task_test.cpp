#include "classify/task.h"

#include "tests/classify/tiny.h"
#include "vision/base/error.h"
#include "vision/base/log.h"
#include "vision/engine/checkpoint.h"
#include "vision/engine/optimizer.h"
#include "vision/engine/trainer.h"

#include <cmath>
#include <filesystem>

#include <ATen/Context.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

namespace comba::classify {
namespace {
namespace fs = std::filesystem;

class ClassifyTaskTest : public testing::Test {
 protected:
  void SetUp() override {
    log::set_level(log::Level::warning);
    folder_ = fs::temp_directory_path() /
              fmt::format("comba_task_{}_{}", getpid(),
                          testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
  }
  void TearDown() override {
    log::set_level(log::Level::info);
    fs::remove_all(folder_);
  }
  vision::RunOptions run(const char* name, bool resume = false) const {
    return {.folder = folder_ / name, .title = "t", .config = "", .seed = 0, .resume = resume};
  }
  fs::path folder_;
};

TEST_F(ClassifyTaskTest, StartsAtTheLossOfAGuess) {
  ClassifyTask task(tiny_config({"train.label_smoothing=0"}), at::kCPU);
  task.start_epoch(0, 0);
  EXPECT_NEAR(task.next_loss().item<double>(), std::log(4.0), 0.2);
}

TEST_F(ClassifyTaskTest, MixedLabelsCostAGuessWhatPlainOnesDo) {
  ClassifyTask task(
      tiny_config({"data.mixup=0.8", "data.cutmix=1", "data.mix_off_epoch=1", "model.drop_path=0"}),
      at::kCPU);
  task.start_epoch(0, 0);
  const double mixed = task.next_loss().item<double>();
  EXPECT_NEAR(mixed, std::log(4.0), 0.2);
  task.start_epoch(0, 0);
  EXPECT_EQ(task.next_loss().item<double>(),
            mixed);  // a function of the step, not of the calls before
  ClassifyTask plain(tiny_config({"model.drop_path=0"}), at::kCPU);
  plain.start_epoch(1, 0);
  task.start_epoch(1, 0);  // off from here
  EXPECT_EQ(task.next_loss().item<double>(), plain.next_loss().item<double>());
}

// Mean over images and classes of -log sigmoid(x) where a class is in the image, else -log sigmoid(-x).
TEST_F(ClassifyTaskTest, BinaryCrossEntropyCountsAllClassesOfAMixAsThere) {
  const RunConfig config = tiny_config(
      {"train.loss=bce", "train.label_smoothing=0", "data.mixup=0.8", "model.drop_path=0"});
  ClassifyTask task(config, at::kCPU);
  task.start_epoch(0, 0);
  TrainingBatches batches(config, at::kCPU);
  batches.start(0, 0);
  const TrainingBatch batch = batches.next();
  const at::Tensor logits = task.classifier()->forward(batch.images);
  double sum = 0;
  for (int64_t i = 0; i < 8; ++i) {
    const auto own = batch.labels[i].item<int64_t>(), other = batch.labels[7 - i].item<int64_t>();
    for (int64_t c = 0; c < 4; ++c) {
      const double x = logits[i][c].item<double>();
      sum += std::log1p(std::exp(c == own || c == other ? -x : x));
    }
  }
  EXPECT_NEAR(task.next_loss().item<double>(), sum / 32, 1e-5);
}

TEST_F(ClassifyTaskTest, BinaryCrossEntropyTakesUnmixedImagesToo) {
  ClassifyTask task(tiny_config({"train.loss=bce", "train.label_smoothing=0"}), at::kCPU);
  task.start_epoch(0, 0);
  EXPECT_NEAR(task.next_loss().item<double>(), std::log(2.0), 0.1);
}

TEST_F(ClassifyTaskTest, EvaluationNeitherErasesNorMixes) {
  ClassifyTask plain(tiny_config(), at::kCPU);
  ClassifyTask task(tiny_config({"data.erase=1", "data.mixup=0.8"}), at::kCPU);
  EXPECT_EQ(task.evaluate(), plain.evaluate());
}

TEST_F(ClassifyTaskTest, LearnsAFixedBatchByHeart) {
  ClassifyTask task(tiny_config({"data.synthetic_fixed_batch=true", "model.drop_path=0",
                                 "train.label_smoothing=0"}),
                    at::kCPU);
  vision::Optimizer optimizer(task.model(), {});
  task.start_epoch(0, 0);
  double first = 0.0, last = 0.0;
  for (int i = 0; i < 60; ++i) {
    const torch::Tensor loss = task.next_loss();
    loss.backward();
    optimizer.step(3e-3);
    last = loss.item<double>();
    first = i == 0 ? last : first;
  }
  EXPECT_LT(last, 0.1 * first);
}

TEST_F(ClassifyTaskTest, ReachesEveryParameterWithAGradient) {
  ClassifyTask task(tiny_config({"model.drop_path=0"}), at::kCPU);
  vision::Optimizer optimizer(task.model(), {});
  task.start_epoch(0, 0);
  task.next_loss().backward();
  for (const auto& item : task.model().named_parameters()) {
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    EXPECT_GT(item.value().grad().abs().max().item<double>(), 0.0) << item.key();
  }
}

TEST_F(ClassifyTaskTest, ResumesMidEpochWithTheSameBitsDropPathIncluded) {
  const RunConfig config = tiny_config({"train.checkpoint_every=1000"});
  ClassifyTask straight(config, at::kCPU);
  EXPECT_EQ(vision::train(straight, config.train, run("straight")).steps, 30);
  RunConfig cut = config;
  cut.train.max_steps = 14;
  ClassifyTask first(cut, at::kCPU);
  vision::train(first, cut.train, run("cut"));
  ClassifyTask second(config, at::kCPU);
  at::manual_seed(123456);
  vision::train(second, config.train, run("cut", true));
  const auto a = vision::load_checkpoint(folder_ / "straight/checkpoints/last");
  const auto b = vision::load_checkpoint(folder_ / "cut/checkpoints/last");
  for (const auto& [name, tensor] : a.model) {
    EXPECT_TRUE(tensor.equal(b.model.at(name))) << name;
  }
  for (const auto& [name, tensor] : a.ema) {
    EXPECT_TRUE(tensor.equal(b.ema.at(name))) << name;
  }
}

TEST_F(ClassifyTaskTest, TwoRunsOfOneSeedAreEqualAndAnotherSeedDiffers) {
  const auto head = [&](const char* name, const char* seed) {
    RunConfig config = tiny_config({seed, "train.max_steps=5"});
    ClassifyTask task(config, at::kCPU);
    vision::train(task, config.train, run(name));
    return task.classifier()->head->weight.detach().clone();
  };
  const at::Tensor a = head("a", "seed=3"), b = head("b", "seed=3"), c = head("c", "seed=4");
  EXPECT_TRUE(a.equal(b));
  EXPECT_FALSE(a.equal(c));
}

TEST_F(ClassifyTaskTest, RefusesFewerOutputsThanTheDataHasClasses) {
  // Synthetic data takes its classes from the key, so the mismatch needs a real source: see tests/tools.
  EXPECT_EQ(ClassifyTask(tiny_config({"model.classes=2"}), at::kCPU).classifier()->classes(), 2);
}

}  // namespace
}  // namespace comba::classify
