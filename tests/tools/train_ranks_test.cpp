// Training in several processes, on the processor, with the built binary.
#include "vision/base/files.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {
namespace fs = std::filesystem;

using Strings = std::vector<std::string>;

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

struct Outcome {
  int code = -1;  // exit code, or 128 + signal
  std::string out, err;
};

class TrainRanks : public testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        fs::temp_directory_path() / ("comba_ranks_" + std::to_string(getpid()) + "_" +
                                     testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  // Starts the binary with more environment variables ("NAME=value"); its output goes to files named after `name`.
  pid_t start(const std::string& name, Strings arguments, Strings variables = {}) const {
    const pid_t child = fork();
    if (child != 0) {
      return child;
    }
    std::vector<char*> argv = {const_cast<char*>(COMBA_BINARY)};
    for (std::string& argument : arguments) {
      argv.push_back(argument.data());
    }
    argv.push_back(nullptr);
    for (std::string& variable : variables) {
      putenv(variable.data());
    }
    if (chdir(folder_.c_str()) != 0 || freopen((name + ".out").c_str(), "w", stdout) == nullptr ||
        freopen((name + ".err").c_str(), "w", stderr) == nullptr) {
      _exit(99);
    }
    execv(COMBA_BINARY, argv.data());
    _exit(98);
  }
  Outcome finish(const std::string& name, pid_t child) const {
    int status = 0;
    waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
            comba::read_file(folder_ / (name + ".out")),
            comba::read_file(folder_ / (name + ".err"))};
  }
  Outcome run(const std::string& name, const Strings& arguments) const {
    return finish(name, start(name, arguments));
  }

  // Training arguments for a network that is small enough for a test, into the folder `name`.
  static Strings train(const std::string& name, const Strings& keys, const Strings& more = {}) {
    Strings arguments = {"train",    std::string(COMBA_SOURCE_DIR) + "/configs/mnist5k.toml",
                         "--run",    name,
                         "--device", "cpu"};
    const Strings all = {"model.width=32",          "model.depth=2",    "model.drop_path=0.3",
                         "train.epochs=3",          "train.threads=1",  "data.threads=1",
                         "train.warmup_epochs=0.1", "train.log_every=1"};
    for (const Strings& list : {all, keys}) {
      for (const std::string& key : list) {
        arguments.insert(arguments.end(), {"--set", key});
      }
    }
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  // Lines of the run's metrics.jsonl that have the field.
  std::vector<nlohmann::json> records(const std::string& name, const char* field) const {
    std::vector<nlohmann::json> found;
    std::istringstream lines(comba::read_file(folder_ / name / "metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const auto record = nlohmann::json::parse(line);
      if (record.contains(field)) {
        found.push_back(record);
      }
    }
    return found;
  }
  void wait_for_steps(const std::string& name) const {
    const fs::path metrics = folder_ / name / "metrics.jsonl";
    for (int i = 0; i < 60000 && (!fs::exists(metrics) || fs::file_size(metrics) == 0); ++i) {
      usleep(1000);
    }
  }
  std::string last_weights(const std::string& name) const {
    const fs::path last = folder_ / name / "checkpoints/last";
    return comba::read_file(last / "model.safetensors") +
           comba::read_file(last / "ema.safetensors") +
           comba::read_file(last / "optimizer.safetensors");
  }
  // What follows `text` in a log up to the next character that is no digit.
  static int64_t number_after(const std::string& log, const std::string& text) {
    const size_t at = log.find(text);
    return at == std::string::npos ? -1 : std::strtoll(log.c_str() + at + text.size(), nullptr, 10);
  }
  pid_t process_of_rank(const std::string& name, int rank, int ranks) const {
    return static_cast<pid_t>(number_after(
        comba::read_file(folder_ / (name + ".err")),
        "rank " + std::to_string(rank) + " of " + std::to_string(ranks) + " is process "));
  }
  void expect_same_losses(const std::string& one, const std::string& several,
                          double tolerance) const {
    const auto a = records(one, "gradient_norm"), b = records(several, "gradient_norm");
    ASSERT_EQ(a.size(), b.size());
    ASSERT_GT(a.size(), 5U);
    for (size_t i = 0; i < a.size(); ++i) {
      const double wanted = a[i]["loss"], got = b[i]["loss"];
      EXPECT_NEAR(got, wanted, tolerance * wanted) << "step " << a[i]["step"];
    }
  }
  // The loss of every step, of one process and of several ranks, and what evaluation found.
  void expect_same_curves(const std::string& one, const std::string& several) const {
    expect_same_losses(one, several, 1e-5);
    const std::string wanted = comba::read_file(folder_ / one / "results.csv"),
                      got = comba::read_file(folder_ / several / "results.csv");
    EXPECT_EQ(std::count(got.begin(), got.end(), '\n'),
              std::count(wanted.begin(), wanted.end(), '\n'));
    const auto c = records(one, "train_loss"), d = records(several, "train_loss");
    ASSERT_EQ(c.size(), d.size());
    for (size_t i = 0; i < c.size(); ++i) {
      for (const char* weights : {"raw", "ema"}) {
        ASSERT_TRUE(c[i].contains(weights)) << c[i];
        const double loss = c[i][weights]["loss"], top1 = c[i][weights]["top1"];
        EXPECT_NEAR(double(d[i][weights]["loss"]), loss, 1e-5 * loss);
        EXPECT_NEAR(double(d[i][weights]["top1"]), top1, 1e-9);
      }
    }
  }

  fs::path folder_;
};

// With all that is drawn at random: shuffling, augmentation, mixing, drop path.
TEST_F(TrainRanks, TwoRanksAreOneProcess) {
  const Strings keys = {"train.batch_size=128", "data.mixup=0.8", "data.cutmix=1.0",
                        "train.max_steps=24"};
  const Outcome one = run("one", train("one", keys));
  ASSERT_EQ(one.code, 0) << one.err;
  const Outcome two = run("two", train("two", keys, {"--gpus", "2"}));
  ASSERT_EQ(two.code, 0) << two.err;
  EXPECT_SAYS(two.err, "2 ranks");
  EXPECT_SAYS(two.out, "two/report.html");
  expect_same_curves("one", "two");
}

// 1,000 test images are not a multiple of three: each is counted once.
TEST_F(TrainRanks, ThreeRanksAreOneProcess) {
  const Strings keys = {"train.batch_size=60", "train.max_steps=8"};
  ASSERT_EQ(run("one", train("one", keys)).code, 0);
  const Outcome three = run("three", train("three", keys, {"--gpus", "3"}));
  ASSERT_EQ(three.code, 0) << three.err;
  expect_same_curves("one", "three");
}

// With batch normalisation in its head; 13 pairs to evaluate are shared out 6 and 7.
TEST_F(TrainRanks, TwoRanksTrainATrackerAsOneProcessDoes) {
  std::ofstream(folder_ / "tiny.toml")
      << "task = \"track\"\n[model]\nimage_size = 64\ntemplate_size = 32\nwidth = 64\n"
         "depth = 1\nhead_width = 16\ndrop_path = 0.3\n[data]\ntrain = [\"got10k:val\"]\n"
         "eval = [\"got10k:val\"]\nsamples = 64\neval_samples = 13\n[train]\nepochs = 1\n"
         "batch_size = 8\nwarmup_epochs = 0\nlog_every = 1\n";
  const Outcome videos = run("synth", {"data", "synth", "got10k", "val", "--split", "val",
                                       "--sequences", "2", "--frames", "24", "--size", "160x120"});
  ASSERT_EQ(videos.code, 0) << videos.err;
  const Strings one = {"train", "tiny.toml", "--run", "one", "--device", "cpu"};
  ASSERT_EQ(run("one", one).code, 0);
  const Outcome two =
      run("two", {"train", "tiny.toml", "--run", "two", "--device", "cpu", "--gpus", "2"});
  ASSERT_EQ(two.code, 0) << two.err;
  expect_same_losses("one", "two", 1e-5);
  const double wanted = records("one", "train_loss")[0]["raw"]["loss"],
               got = records("two", "train_loss")[0]["raw"]["loss"];
  EXPECT_NEAR(got, wanted, 1e-3 * wanted) << "evaluated in batches of 4 instead of 8";
}

TEST_F(TrainRanks, ASignalToOneStopsAllAfterTheSameStepAndTheResumedRunHasTheSameBits) {
  const Strings keys = {"train.batch_size=50", "train.max_steps=40"};
  const Strings two = {"--gpus", "2"}, again = {"--gpus", "2", "--resume"};
  ASSERT_EQ(run("straight", train("straight", keys, two)).code, 0);
  const pid_t launcher = start("stopped", train("stopped", keys, two));
  wait_for_steps("stopped");
  const pid_t second = process_of_rank("stopped", 1, 2);
  ASSERT_GT(second, 0);
  kill(second, SIGTERM);
  const Outcome stopped = finish("stopped", launcher);
  EXPECT_EQ(stopped.code, 143) << stopped.err;
  const int64_t step = number_after(stopped.err, "stopped by signal 15 after step ");
  EXPECT_GT(step, 0) << stopped.err;
  EXPECT_EQ(number_after(stopped.err, "[rank 1] error: stopped after step "), step);
  EXPECT_TRUE(fs::exists(folder_ / "stopped/checkpoints" / ("step-" + std::to_string(step))));
  const Outcome resumed = run("again", train("stopped", keys, again));
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_SAYS(resumed.err, "step " + std::to_string(step) + " of 40");
  EXPECT_TRUE(last_weights("straight") == last_weights("stopped"));
}

TEST_F(TrainRanks, CtrlCToTheLauncherSavesOnce) {
  const pid_t launcher = start("run", train("run", {}, {"--gpus", "2"}));
  wait_for_steps("run");
  kill(launcher, SIGINT);
  const Outcome stopped = finish("run", launcher);
  EXPECT_EQ(stopped.code, 130) << stopped.err;
  EXPECT_TRUE(fs::exists(folder_ / "run/checkpoints/last/state.json"));
}

TEST_F(TrainRanks, ARankThatIsKilledEndsTheOthersByName) {
  const pid_t launcher =
      start("run", train("run", {}, {"--gpus", "3", "--set", "train.batch_size=60"}));
  wait_for_steps("run");
  const pid_t second = process_of_rank("run", 1, 3);
  ASSERT_GT(second, 0);
  kill(second, SIGKILL);
  const Outcome outcome = finish("run", launcher);
  EXPECT_EQ(outcome.code, 1);
  const std::string what = "rank 1 (process " + std::to_string(second) + ") was killed by signal 9";
  EXPECT_SAYS(outcome.err, "[rank 2] error: " + what);
  EXPECT_SAYS(outcome.err, "\nerror: " + what);  // rank 0
  EXPECT_SAYS(outcome.err, "training on 3 ranks: " + what);
}

// As torchrun would start them, without a launcher that sees them die.
TEST_F(TrainRanks, RanksStartedByOthersNoticeTheEndOfRankZero) {
  pid_t ranks[2];
  for (int rank = 0; rank < 2; ++rank) {
    const std::string number = std::to_string(rank);
    ranks[rank] =
        start("rank" + number, train("run", {}),
              {"RANK=" + number, "LOCAL_RANK=" + number, "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1",
               "MASTER_PORT=" + std::to_string(20000 + getpid() % 20000)});
  }
  wait_for_steps("run");
  kill(ranks[0], SIGKILL);
  EXPECT_EQ(finish("rank0", ranks[0]).code, 128 + SIGKILL);
  const Outcome other = finish("rank1", ranks[1]);
  EXPECT_EQ(other.code, 1);
  EXPECT_SAYS(other.err, "rank 0");
  EXPECT_SAYS(other.err, "has died");
}

// As the README says it; behind -- torchrun leaves our options alone.
TEST_F(TrainRanks, TorchrunStartsRanksThatTrainAsOurLauncherDoes) {
  const std::string python = COMBA_TEST_PYTHON;
  const std::string probe = "'" + python + "' -c 'import torch.distributed.run' >/dev/null 2>&1";
  if (python.empty() || std::system(probe.c_str()) != 0) {
    GTEST_SKIP() << "needs a Python with torch";
  }
  const Strings keys = {"train.max_steps=6", "train.batch_size=40"};
  std::string command = "cd '" + folder_.string() + "' && '" + python +
                        "' -m torch.distributed.run --standalone --nproc-per-node 2 --no-python "
                        "-- '" COMBA_BINARY "'";
  for (const std::string& argument : train("theirs", keys)) {
    command += " '" + argument + "'";
  }
  EXPECT_EQ(std::system((command + " > theirs.txt 2>&1").c_str()), 0)
      << comba::read_file(folder_ / "theirs.txt");
  EXPECT_EQ(run("ours", train("ours", keys, {"--gpus", "2"})).code, 0);
  EXPECT_EQ(last_weights("theirs"), last_weights("ours"));
}

TEST_F(TrainRanks, WhatCannotBeSharedOutIsRefused) {
  const Outcome uneven = run("a", train("a", {"train.batch_size=50"}, {"--gpus", "3"}));
  EXPECT_EQ(uneven.code, 2) << uneven.err;
  EXPECT_SAYS(uneven.err, "take 48 or 51");
  EXPECT_FALSE(fs::exists(folder_ / "a"));
  const Outcome mixed =
      run("b", train("b", {"train.batch_size=50", "data.mixup=0.8"}, {"--gpus", "2"}));
  EXPECT_EQ(mixed.code, 1) << mixed.err;
  EXPECT_SAYS(mixed.err, "take batches of a multiple of 128");
}

TEST_F(TrainRanks, WrongArgumentsAreSaidOnce) {
  const Outcome outcome = run("a", {"train", "absent.toml", "--gpus", "2"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  const Outcome device = run("b", train("b", {}, {"--gpus", "2", "--device", "cuda:1"}));
  EXPECT_EQ(device.code, 2) << device.err;
}

}  // namespace
