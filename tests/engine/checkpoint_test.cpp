#include "vision/engine/checkpoint.h"

#include "vision/base/error.h"
#include "vision/base/log.h"

#include <fstream>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace comba::vision {
namespace {
namespace fs = std::filesystem;

class CheckpointTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() /
              fmt::format("comba_checkpoint_{}_{}", getpid(),
                          testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    previous_ = log::set_sink([this](log::Level level, std::string_view line) {
      if (level == log::Level::warning) {
        warnings_ += std::string(line) + "\n";
      }
    });
  }
  void TearDown() override {
    log::set_sink(previous_);
    fs::remove_all(folder_);
  }

  static Checkpoint example(int64_t step, int64_t elements = 1000) {
    Checkpoint checkpoint;
    checkpoint.state.step = step;
    checkpoint.state.epoch = 3;
    checkpoint.state.epoch_step = 7;
    checkpoint.state.epoch_loss_sum = 0.1;
    checkpoint.state.best_metric = 97.25;
    checkpoint.state.data_fingerprint = "abc";
    checkpoint.model = {{"weight", at::full({elements}, static_cast<double>(step))}};
    checkpoint.ema = {{"weight", at::full({elements}, 0.5)}};
    checkpoint.optimizer = {{"steps", at::arange(4)}};
    checkpoint.config = "[train]\nlr = 1.0\n";
    return checkpoint;
  }
  fs::path write(int64_t step) {
    const fs::path path = folder_ / fmt::format("step-{}", step);
    save_checkpoint(path, example(step));
    return path;
  }
  static void flip_bit(const fs::path& file, int64_t offset_from_end) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(-offset_from_end, std::ios::end);
    const int byte = stream.get();
    stream.seekp(-offset_from_end, std::ios::end);
    stream.put(static_cast<char>(byte ^ 4));
  }
  // What verification says about the damaged checkpoint.
  static std::string complaint(const fs::path& path) {
    try {
      verify_checkpoint(path);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  fs::path folder_;
  std::string warnings_;
  log::Sink previous_;
};

TEST_F(CheckpointTest, ComesBackAsItWasWritten) {
  const LoadedCheckpoint loaded = load_checkpoint(write(12));
  EXPECT_EQ(loaded.state.step, 12);
  EXPECT_EQ(loaded.state.epoch, 3);
  EXPECT_EQ(loaded.state.epoch_step, 7);
  EXPECT_EQ(loaded.state.epoch_loss_sum, 0.1);
  EXPECT_EQ(loaded.state.best_metric, 97.25);
  EXPECT_EQ(loaded.state.data_fingerprint, "abc");
  EXPECT_TRUE(loaded.model.at("weight").equal(at::full({1000}, 12.0)));
  EXPECT_TRUE(loaded.ema.at("weight").equal(at::full({1000}, 0.5)));
  EXPECT_TRUE(loaded.optimizer.at("steps").equal(at::arange(4)));
  EXPECT_EQ(loaded.config, "[train]\nlr = 1.0\n");
}

TEST_F(CheckpointTest, TakesTheNewestByStepNotByName) {
  write(9);
  write(100);
  write(20);
  EXPECT_EQ(load_newest_checkpoint(folder_)->state.step, 100);
  EXPECT_EQ(warnings_, "");
}

TEST_F(CheckpointTest, FindsNothingInAnEmptyOrAbsentFolder) {
  EXPECT_FALSE(load_newest_checkpoint(folder_).has_value());
  EXPECT_FALSE(load_newest_checkpoint(folder_ / "absent").has_value());
}

TEST_F(CheckpointTest, RefusesAFlippedBitInEveryFileAndNamesIt) {
  for (const char* name :
       {"model.safetensors", "ema.safetensors", "optimizer.safetensors", "config.toml"}) {
    const fs::path path = write(1);
    flip_bit(path / name, 5);
    EXPECT_NE(complaint(path).find(name), std::string::npos) << complaint(path);
  }
}

TEST_F(CheckpointTest, RefusesDamageAnywhereInItsOwnState) {
  const fs::path path = write(1);
  const auto size = static_cast<int64_t>(fs::file_size(path / "state.json"));
  int64_t unseen = 0;
  for (int64_t offset = 1; offset <= size; ++offset) {
    flip_bit(path / "state.json", offset);
    unseen += complaint(path).empty() ? 1 : 0;
    flip_bit(path / "state.json", offset);
  }
  // White space may change without consequence; a digit or a name may not.
  EXPECT_LT(unseen, size / 4);
  EXPECT_EQ(complaint(path), "");
}

TEST_F(CheckpointTest, RefusesTruncatedAndMissingFiles) {
  const fs::path path = write(1);
  fs::resize_file(path / "model.safetensors", fs::file_size(path / "model.safetensors") - 1);
  EXPECT_NE(complaint(path).find("truncated"), std::string::npos) << complaint(path);
  fs::remove(path / "model.safetensors");
  EXPECT_NE(complaint(path).find("model.safetensors is missing"), std::string::npos)
      << complaint(path);
}

TEST_F(CheckpointTest, FallsBackToAnOlderOneWithAWarningThatNamesTheDamaged) {
  write(10);
  const fs::path newer = write(20);
  flip_bit(newer / "model.safetensors", 100);
  const auto found = load_newest_checkpoint(folder_);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->state.step, 10);
  EXPECT_NE(warnings_.find("step-20"), std::string::npos) << warnings_;
  EXPECT_NE(warnings_.find("model.safetensors"), std::string::npos) << warnings_;
}

TEST_F(CheckpointTest, ThrowsWhenNoneIsValid) {
  flip_bit(write(10) / "config.toml", 3);
  EXPECT_THROW(load_newest_checkpoint(folder_), Error);
}

TEST_F(CheckpointTest, RefusesAnotherFormatVersion) {
  const fs::path path = write(1);
  std::string text;
  {
    std::ifstream file(path / "state.json");
    text.assign(std::istreambuf_iterator<char>(file), {});
  }
  const size_t at = text.find("\"format\": 1");
  ASSERT_NE(at, std::string::npos);
  text.replace(at, 11, "\"format\": 9");
  std::ofstream(path / "state.json") << text;
  EXPECT_NE(complaint(path).find("format version 9"), std::string::npos) << complaint(path);
}

TEST_F(CheckpointTest, LinksAreWholeCheckpointsAndReplaceTheirPredecessor) {
  link_checkpoint(write(10), folder_ / "last");
  link_checkpoint(write(20), folder_ / "last");
  EXPECT_EQ(load_checkpoint(folder_ / "last").state.step, 20);
  fs::remove_all(folder_ / "step-20");
  EXPECT_EQ(load_newest_checkpoint(folder_)->state.step, 20);
}

TEST_F(CheckpointTest, PruningKeepsTheNewestStepsAndTheNamedOnes) {
  for (const int64_t step : {5, 10, 15, 200}) {
    write(step);
  }
  link_checkpoint(folder_ / "step-5", folder_ / "best");
  prune_checkpoints(folder_, 2);
  EXPECT_FALSE(fs::exists(folder_ / "step-5"));
  EXPECT_FALSE(fs::exists(folder_ / "step-10"));
  EXPECT_TRUE(fs::exists(folder_ / "step-15"));
  EXPECT_TRUE(fs::exists(folder_ / "step-200"));
  EXPECT_EQ(load_checkpoint(folder_ / "best").state.step, 5);
}

// Writes checkpoints without end until it is killed.
[[noreturn]] void write_forever(const fs::path& folder, const Checkpoint& example) {
  for (int64_t step = 1;; ++step) {
    Checkpoint checkpoint = example;
    checkpoint.state.step = step;
    save_checkpoint(folder / fmt::format("step-{}", step), checkpoint);
    link_checkpoint(folder / fmt::format("step-{}", step), folder / "last");
    prune_checkpoints(folder, 2);
  }
}

TEST_F(CheckpointTest, SurvivesBeingKilledAtAnyMomentOfAWrite) {
  const Checkpoint checkpoint = example(0, 200000);
  for (int attempt = 0; attempt < 12; ++attempt) {
    const fs::path folder = folder_ / fmt::format("{}", attempt);
    fs::create_directories(folder);
    const pid_t child = fork();
    if (child == 0) {
      write_forever(folder, checkpoint);
    }
    while (!fs::exists(folder / "step-1")) {
      usleep(1000);
    }
    usleep(static_cast<useconds_t>(3000 + 2711 * attempt));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    const auto found = load_newest_checkpoint(folder);
    ASSERT_TRUE(found.has_value());
    EXPECT_GE(found->state.step, 1);
    EXPECT_EQ(warnings_, "") << "a half-written checkpoint was visible";
  }
}

TEST_F(CheckpointTest, AFullDiskLeavesTheOldOnesAndAMessage) {
  write(10);
  const pid_t child = fork();
  if (child == 0) {
    at::set_num_threads(1);  // the others, if any test had begun them, are not here
    // A file size limit fails writes the way a full disk does, without needing one.
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      save_checkpoint(folder_ / "step-20", example(20, 100000));
    } catch (const Error& error) {
      _exit(std::string(error.what()).find("model.safetensors") != std::string::npos ? 0 : 2);
    }
    _exit(1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0) << "1: no error, 2: an error that does not name the file";
  EXPECT_FALSE(fs::exists(folder_ / "step-20"));
  EXPECT_EQ(load_newest_checkpoint(folder_)->state.step, 10);
}

}  // namespace
}  // namespace comba::vision
