#include "vision/engine/event_file.h"

#include "tests/base/temporary_folder.h"
#include "vision/base/files.h"
#include "vision/base/log.h"

#include <cmath>

#include <gtest/gtest.h>

namespace comba::vision {
namespace {
namespace fs = std::filesystem;

using testing_tools::TemporaryFolder;

constexpr double kTime = 1700000000.25;

// tests/golden/make_event_file.py
TEST(EventFile, HasTheBytesThatTensorBoardsOwnWriterGives) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "events";
  {
    EventFile events(path, /*first_step=*/300, kTime);
    events.add(300, {{"train/loss", 2.5}, {"train/lr", 1e-3}});
    events.add(70000, {{"eval/top1", 97.25}, {"train/loss", std::nan("")}});
  }
  EXPECT_EQ(read_file(path), read_file(fs::path(COMBA_GOLDEN_DIR) / "event_file.golden"));
}

TEST(EventFile, IsNamedAsTensorBoardLooksForIt) {
  const TemporaryFolder folder;
  const EventFile events(folder.path() / "tensorboard", 0);
  EXPECT_TRUE(events.path().filename().string().starts_with("events.out.tfevents."));
  EXPECT_GT(fs::file_size(events.path()), 0U);
}

TEST(EventFile, AFailureIsWarnedOfOnce) {
  int warnings = 0;
  const log::Sink previous = log::set_sink([&](log::Level, std::string_view) { ++warnings; });
  EventFile events("/dev/full", 0, kTime);
  events.add(1, {{"train/loss", 1.0}});
  events.add(2, {{"train/loss", 1.0}});
  log::set_sink(previous);
  EXPECT_EQ(warnings, 1);
}

}  // namespace
}  // namespace comba::vision
