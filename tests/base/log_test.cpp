// Log lines: levels, sinks, files; and where an error says it came from.
#include "vision/base/log.h"

#include "tests/base/temporary_folder.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

#include <vector>

namespace comba {
namespace {

class Log : public testing::Test {
 protected:
  void SetUp() override {
    before_ =
        log::set_sink([this](log::Level, std::string_view line) { lines_.emplace_back(line); });
  }
  void TearDown() override {
    log::set_level(log::Level::info);
    log::set_file("");
    log::set_sink(before_);
  }
  std::vector<std::string> lines_;
  log::Sink before_;
};

TEST_F(Log, DropsWhatIsBelowTheLevel) {
  log::debug("details");
  log::info("{} images", 3);
  log::set_level(log::Level::error);
  log::warning("dropped");
  log::error("kept");
  ASSERT_EQ(lines_.size(), 2U);
  EXPECT_SAYS(lines_[0], "3 images");
  EXPECT_SAYS(lines_[1], "kept");
}

TEST_F(Log, AlsoAppendsToAFile) {
  const testing_tools::TemporaryFolder folder;
  const std::string path = (folder.path() / "log.txt").string();
  log::set_file(path);
  log::info("one");
  log::warning("two");
  log::set_file("");
  log::info("three");
  const std::string text = read_file(path);
  EXPECT_SAYS(text, "one");
  EXPECT_SAYS(text, "two");
  EXPECT_EQ(text.find("three"), std::string::npos);
}

TEST(ErrorTest, ACheckThrowsItsFormattedMessageAndItsPlace) {
  try {
    COMBA_CHECK(1 + 1 == 3, "adding {} and {}: expected {}", 1, 1, 3);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "adding 1 and 1: expected 3");
    EXPECT_EQ(error.where().rfind("log_test.cpp:", 0), 0U) << error.where();
    EXPECT_EQ(error.exit_code(), kExitRuntime);
  }
  EXPECT_EQ(UsageError("x").exit_code(), kExitUsage);
}

}  // namespace
}  // namespace comba
