#include "classify/config.h"

#include "tests/classify/tiny.h"
#include "vision/base/error.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <unistd.h>

namespace comba::classify {
namespace {
namespace fs = std::filesystem;

std::string complaint(const std::string& text, const std::vector<std::string>& assignments = {}) {
  RunConfig config;
  try {
    read_run_config_text(text, "x.toml", ".", assignments, config);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

TEST(RunConfig, DataGeometryFollowsTheModel) {
  const RunConfig config = tiny_config();
  EXPECT_EQ(config.transform.image_size, 8);
  EXPECT_EQ(config.transform.channels, 3);
}

TEST(RunConfig, RefusesGeometryThatContradictsTheModel) {
  const std::string message = complaint(kTinyConfig, {"data.image_size=32"});
  EXPECT_NE(message.find("data.image_size"), std::string::npos) << message;
  EXPECT_NE(message.find("model.image_size"), std::string::npos) << message;
}

TEST(RunConfig, NamesTheNearestKeyAndTheLineOfATypo) {
  const std::string message = complaint("[train]\nepoch = 3\n");
  EXPECT_NE(message.find("x.toml:2"), std::string::npos) << message;
  EXPECT_NE(message.find("train.epochs"), std::string::npos) << message;
}

TEST(RunConfig, WantsOneMeanPerChannel) {
  const std::string message = complaint("[model]\nin_channels = 1\n");
  EXPECT_NE(message.find("data.mean has 3 values"), std::string::npos) << message;
}

TEST(RunConfig, ReadsBackWhatItDumps) {
  const RunConfig config = tiny_config({"train.lr=0.0123", "seed=7", "data.train_split=\"a b\""});
  RunConfig again;
  read_run_config_text(dump(config), "dump", ".", {}, again);
  EXPECT_EQ(dump(again), dump(config));
  EXPECT_EQ(again.train.lr, 0.0123);
  EXPECT_EQ(again.seed, 7);
  EXPECT_EQ(again.data.train_split, "a b");
}

TEST(RunConfig, LooksForDataBesideTheConfigFile) {
  const fs::path folder = fs::temp_directory_path() / ("comba_config_" + std::to_string(getpid()));
  fs::create_directories(folder / "sub");
  fs::create_directories(folder / "images");
  std::ofstream(folder / "sub" / "c.toml") << "[data]\ntrain = \"../images\"\n";
  RunConfig config;
  read_run_config(folder / "sub" / "c.toml", {}, config);
  EXPECT_EQ(config.data.train, fs::canonical(folder / "images").string());
  fs::remove_all(folder);
}

TEST(RunConfig, ScalesTheLearningRateByTheBatchOnlyWhenAsked) {
  EXPECT_DOUBLE_EQ(tiny_config({"train.lr=1e-3"}).train.peak_lr(), 1e-3);
  EXPECT_DOUBLE_EQ(
      tiny_config({"train.lr=5e-4", "train.lr_batch=512", "train.batch_size=1024"}).train.peak_lr(),
      1e-3);
}

TEST(RunConfig, RefusesAugmentationThatCannotBeDone) {
  RunConfig config;
  const auto read = [&](const std::vector<std::string>& set) {
    read_run_config_text("", "test", ".", set, config);
  };
  EXPECT_NO_THROW(read({"data.augment=rand-m9-mstd0.5-inc1"}));
  EXPECT_THROW(read({"data.augment=rand-x"}), UsageError);
  const std::vector<std::string> grey = {"model.in_channels=1", "data.mean=[0.1]",
                                         "data.std=[0.3]"};
  EXPECT_NO_THROW(read(grey));
  for (const char* more : {"data.augment=3a", "data.jitter=0.3"}) {
    std::vector<std::string> set = grey;
    set.push_back(more);
    EXPECT_THROW(read(set), UsageError) << more;
  }
}

TEST(RunConfig, RefusesSmoothedTargetsThatWouldAllCountAsOne) {
  const std::string message = complaint("", {"train.loss=bce"});
  EXPECT_NE(message.find("train.label_smoothing = 0"), std::string::npos) << message;
  EXPECT_EQ(complaint("", {"train.loss=bce", "train.label_smoothing=0"}), "");
}

TEST(RunConfig, EveryShippedFileIsValid) {
  int files = 0;
  for (const auto& entry :
       fs::recursive_directory_iterator(fs::path(COMBA_SOURCE_DIR) / "configs")) {
    if (entry.path().extension() == ".toml" &&
        config_task(read_config_file(entry.path()), entry.path()) == "classify") {
      RunConfig config;
      EXPECT_NO_THROW(read_run_config(entry.path(), {}, config)) << entry.path();
      ++files;
    }
  }
  EXPECT_GE(files, 5);
}

}  // namespace
}  // namespace comba::classify
