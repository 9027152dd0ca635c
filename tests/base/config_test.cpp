// Configuration: what is read, and what is said about what cannot be.
#include "vision/base/config.h"

#include "tests/base/temporary_folder.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

namespace comba {
namespace {

using testing_tools::message_of;
using testing_tools::TemporaryFolder;

struct Options {
  bool resume = false;
  int64_t epochs = 30;
  double lr = 0.001;
  std::string mixer = "comba";
  std::vector<int64_t> milestones = {10, 20};
  std::vector<double> mean = {0.5};
  std::vector<std::string> names = {"a"};
};

ConfigTable table_of(Options& o) {
  ConfigTable table;
  table.add("train.resume", &o.resume, "goes on with a run");
  table.add("train.epochs", &o.epochs, "passes over the data", {1, 1000});
  table.add("train.lr", &o.lr, "learning rate", {0, 10});
  table.add_choice("model.mixer", &o.mixer, {"comba", "softmax"}, "token mixer");
  table.add("train.milestones", &o.milestones, "steps", {0, 100});
  table.add("data.mean", &o.mean, "channel means", {0, 1});
  table.add("data.names", &o.names, "class names");
  return table;
}

std::string usage_error(const std::string& text) {
  Options options;
  ConfigTable table = table_of(options);
  return message_of<UsageError>([&] { table.read_text(text, "net.toml"); });
}

TEST(Config, ReadsEveryType) {
  Options o;
  ConfigTable table = table_of(o);
  table.read_text(R"(
[train]
resume = true
epochs = 7
lr = 2.5e-3
milestones = [1, 2, 3]
[model]
mixer = "softmax"
[data]
mean = [0.25, 1]
names = ["cat", "dog"]
)",
                  "net.toml");
  EXPECT_TRUE(o.resume);
  EXPECT_EQ(o.epochs, 7);
  EXPECT_EQ(o.lr, 2.5e-3);
  EXPECT_EQ(o.mixer, "softmax");
  EXPECT_EQ(o.milestones, (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(o.mean, (std::vector<double>{0.25, 1.0}));
  EXPECT_EQ(o.names, (std::vector<std::string>{"cat", "dog"}));
}

TEST(Config, AnIntegerIsANumberButANumberIsNoInteger) {
  Options o;
  ConfigTable table = table_of(o);
  table.read_text("train.lr = 1", "net.toml");
  EXPECT_EQ(o.lr, 1.0);
  EXPECT_SAYS(usage_error("train.epochs = 1.5"), "expected an integer, got 1.5");
}

TEST(Config, AnUnknownKeyIsNamedWithItsLineAndTheNearestKey) {
  const std::string message = usage_error("[train]\nlr = 0.1\nepoch = 3\n");
  EXPECT_SAYS(message, "net.toml:3");
  EXPECT_SAYS(message, "\"train.epoch\"");
  EXPECT_SAYS(message, "did you mean \"train.epochs\"");
}

TEST(Config, AKeyNearNothingGetsNoSuggestion) {
  EXPECT_EQ(usage_error("zzzzzzzzzzzzzzzzzzzzzzzz = 1").find("did you mean"), std::string::npos);
}

TEST(Config, AWrongTypeNamesKeyLineExpectedAndFound) {
  const std::string message = usage_error("\ntrain.lr = \"fast\"");
  EXPECT_SAYS(message, "net.toml:2");
  EXPECT_SAYS(message, "train.lr");
  EXPECT_SAYS(message, "expected a number");
  EXPECT_SAYS(message, "fast");
  EXPECT_SAYS(usage_error("train.milestones = [1, \"two\"]"), "list of integers");
  EXPECT_SAYS(usage_error("train.resume = 1"), "expected a boolean");
}

TEST(Config, AValueOutOfRangeNamesTheRange) {
  EXPECT_SAYS(usage_error("train.epochs = 0"), "expected 1 .. 1000, got 0");
  EXPECT_SAYS(usage_error("train.milestones = [1, 101]"), "0 .. 100");
  EXPECT_SAYS(usage_error("train.lr = nan"), "expected 0 .. 10");
}

TEST(Config, AWordThatIsNoChoiceNamesTheChoicesAndTheNearest) {
  const std::string message = usage_error("model.mixer = \"sotfmax\"");
  EXPECT_SAYS(message, "comba, softmax");
  EXPECT_SAYS(message, "did you mean \"softmax\"");
}

TEST(Config, BrokenTomlNamesLineAndColumn) {
  EXPECT_SAYS(usage_error("[train]\nlr = = 3"), "net.toml:2:");
}

TEST(Config, SetTakesTomlValuesAndBareWordsAndWinsOverTheFile) {
  Options o;
  ConfigTable table = table_of(o);
  table.read_text("train.epochs = 5\nmodel.mixer = \"comba\"", "net.toml");
  table.set("train.epochs=9");
  table.set("model.mixer=softmax");
  table.set("train.milestones=[4]");
  EXPECT_EQ(o.epochs, 9);
  EXPECT_EQ(o.mixer, "softmax");
  EXPECT_EQ(o.milestones, (std::vector<int64_t>{4}));
  EXPECT_TRUE(table.given("train.epochs"));
  EXPECT_FALSE(table.given("train.lr"));
}

TEST(Config, SetRefusesWhatIsNotOneAssignment) {
  Options o;
  ConfigTable table = table_of(o);
  for (const char* text :
       {"train.lr", "=3", "train.lr=1\ntrain.epochs=2", "train.epochz=2", "train.lr=quick"}) {
    const std::string message = message_of<UsageError>([&] { table.set(text); });
    EXPECT_SAYS(message, "--set");
  }
  EXPECT_EQ(o.epochs, 30);
}

TEST(Config, WhatIsDumpedReadsBackToTheSameValues) {
  Options o;
  ConfigTable table = table_of(o);
  o.lr = 0.1 + 0.2;
  o.names = {"a \"quoted\" name", "back\\slash", "tab\there", ""};
  o.milestones = {};
  Options back;
  ConfigTable again = table_of(back);
  again.read_text(table.dump(), "dump");
  EXPECT_EQ(back.lr, o.lr);
  EXPECT_EQ(back.names, o.names);
  EXPECT_TRUE(back.milestones.empty());
  EXPECT_EQ(again.dump(), table.dump());
}

TEST(Config, DescribesEveryKeyWithDefaultTypeAndLimits) {
  Options o;
  const std::string text = table_of(o).describe();
  EXPECT_SAYS(text, "train.epochs = 30");
  EXPECT_SAYS(text, "1 .. 1000");
  EXPECT_SAYS(text, "comba | softmax");
  EXPECT_SAYS(text, "learning rate");
}

TEST(Config, AFileThatCannotBeReadIsAUsageErrorWithItsPath) {
  const TemporaryFolder folder;
  Options o;
  ConfigTable table = table_of(o);
  const std::string absent = (folder.path() / "absent.toml").string();
  EXPECT_SAYS(message_of<UsageError>([&] { table.read_file(absent); }), absent);
  EXPECT_SAYS(message_of<UsageError>([&] { table.read_file(folder.path().string()); }),
              folder.path().string());
}

TEST(Config, AFileGoesOnFromItsBase) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder.path() / "more");
  const auto write = [&](const char* name, const std::string& text) {
    write_file_atomic(folder.path() / name, text);
    return (folder.path() / name).string();
  };
  write("base.toml", "task = \"track\"\n[train]\nlr = 0.5\nepochs = 4\n");
  const std::string path = write("more/own.toml", "base = \"../base.toml\"\n[train]\nepochs = 5\n");
  Options o;
  ConfigTable table;
  std::string task;
  table.add("task", &task, "what for");
  table.add("train.lr", &o.lr, "rate");
  table.add("train.epochs", &o.epochs, "passes", {1, 1000});
  table.read_file(path);
  EXPECT_EQ(o.lr, 0.5);
  EXPECT_EQ(o.epochs, 5);
  EXPECT_EQ(config_task(read_config_file(path), path), "track");
  EXPECT_EQ(table.dump().find("base"), std::string::npos);
}

TEST(Config, ABaseThatCannotBeTakenIsNamed) {
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "own.toml").string();
  const auto complaint = [&](const std::string& base, const std::string& own) {
    write_file_atomic(folder.path() / "base.toml", base);
    Options o;
    ConfigTable table = table_of(o);
    return message_of<UsageError>([&] { table.read_text(own, path); });
  };
  const std::string own = "base = \"base.toml\"\n";
  EXPECT_SAYS(complaint("[train]\nepochs = 0\n", own), "base.toml:2");
  EXPECT_SAYS(complaint("base = \"other.toml\"", own), "has a base itself");
  EXPECT_SAYS(complaint("[train", own), "base.toml:1");
  EXPECT_SAYS(complaint("", "base = \"absent.toml\""), "absent.toml");
  EXPECT_SAYS(complaint("", "\nbase = 3"), "own.toml:2: base");
  EXPECT_SAYS(complaint("", "base = \"\""), "own.toml:1: base");
}

TEST(NearestName, CountsInsertionsDeletionsAndReplacements) {
  EXPECT_EQ(nearest_name("wieght", {"height", "weight", "width"}), "weight");
  EXPECT_EQ(nearest_name("lr", {"train.learning_rate"}), "");
}

}  // namespace
}  // namespace comba
