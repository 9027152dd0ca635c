// Files that are whole or absent, maps and checksums.
#include "vision/base/files.h"

#include "tests/base/full_disk.h"
#include "tests/base/temporary_folder.h"
#include "vision/base/error.h"

#include <csignal>
#include <fstream>
#include <numeric>
#include <vector>

#include <sys/wait.h>

namespace comba {
namespace {
namespace fs = std::filesystem;

using testing_tools::FullDisk;
using testing_tools::message_of;
using testing_tools::TemporaryFolder;

size_t entries(const fs::path& folder) {
  return static_cast<size_t>(
      std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

TEST(AtomicWrite, ReplacesTheContentAndLeavesNothingElse) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a.txt";
  write_file_atomic(path, "first");
  write_file_atomic(path, std::string("second\0with a zero", 18));
  EXPECT_EQ(read_file(path), std::string("second\0with a zero", 18));
  EXPECT_EQ(entries(folder.path()), 1U);
}

TEST(AtomicWrite, NothingAppearsWithoutCommit) {
  const TemporaryFolder folder;
  write_file_atomic(folder.path() / "a", "old");
  {
    AtomicFile file(folder.path() / "a");
    file.write("new", 3);
    EXPECT_EQ(file.position(), 3U);
    EXPECT_EQ(read_file(folder.path() / "a"), "old");
  }
  EXPECT_EQ(read_file(folder.path() / "a"), "old");
  EXPECT_EQ(entries(folder.path()), 1U);
}

TEST(AtomicWrite, AFullDiskKeepsTheOldContentAndSaysWhatToDo) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "weights";
  write_file_atomic(path, "old");
  const std::string large(100000, 'x');
  const FullDisk full(4096);
  const std::string message = message_of<Error>([&] { write_file_atomic(path, large); });
  EXPECT_SAYS(message, path.string());
  EXPECT_SAYS(message, "writing byte 4096");
  EXPECT_SAYS(message, "free some space");
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(entries(folder.path()), 1U);
}

TEST(AtomicWrite, AMissingFolderIsNamed) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "no" / "such" / "file";
  EXPECT_SAYS(message_of<Error>([&] { write_file_atomic(path, "x"); }), path.string());
}

TEST(AtomicFolder, AppearsWholeAndReplacesItsPredecessor) {
  const TemporaryFolder folder;
  const fs::path target = folder.path() / "last";
  for (const char* content : {"one", "two"}) {
    AtomicFolder next(target);
    write_file_atomic(next.path() / "a", content);
    if (std::string(content) == "two") {
      EXPECT_EQ(read_file(target / "a"), "one");
      write_file_atomic(next.path() / "b", content);
    }
    next.commit();
  }
  EXPECT_EQ(read_file(target / "a"), "two");
  EXPECT_EQ(read_file(target / "b"), "two");
  EXPECT_EQ(entries(folder.path()), 1U);
}

TEST(AtomicFolder, IsGoneWithoutCommit) {
  const TemporaryFolder folder;
  {
    AtomicFolder next(folder.path() / "last");
    write_file_atomic(next.path() / "a", "x");
  }
  EXPECT_EQ(entries(folder.path()), 0U);
}

// A process that replaces a file again and again is killed at many moments; a reader must always find one whole
// content.
TEST(AtomicWrite, SurvivesBeingKilledAtAnyMoment) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a";
  write_file_atomic(path, std::string(50000, 'a'));
  for (int delay = 0; delay < 40; ++delay) {
    const pid_t child = fork();
    if (child == 0) {
      for (char c = 'a';; c = c == 'z' ? 'a' : static_cast<char>(c + 1)) {
        write_file_atomic(path, std::string(50000, c));
      }
    }
    usleep(static_cast<useconds_t>(1000 + 300 * delay));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    const std::string content = read_file(path);
    ASSERT_EQ(content.size(), 50000U);
    ASSERT_EQ(content, std::string(50000, content[0]));
  }
}

TEST(GrowingFile, GoesOnWhereItIsToldToAndGetsItsNameAtTheEnd) {
  const TemporaryFolder folder;
  const fs::path partial = folder.path() / "a.partial", whole = folder.path() / "a";
  {
    GrowingFile file(partial, 0);
    file.write("one two", 7);
  }
  GrowingFile file(partial, 4);
  EXPECT_EQ(file.position(), 4U);
  file.write("three", 5);
  file.sync();
  EXPECT_FALSE(fs::exists(whole));
  file.rename(whole);
  EXPECT_EQ(read_file(whole), "one three");
  EXPECT_EQ(entries(folder.path()), 1U);
}

TEST(GrowingFile, RefusesAFileThatIsShorterThanItWasAndASecondWriter) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a";
  EXPECT_SAYS(message_of<Error>([&] { GrowingFile(path, 3); }), path.string());
  EXPECT_FALSE(fs::exists(path));
  GrowingFile file(path, 0);
  file.write("abc", 3);
  EXPECT_SAYS(message_of<Error>([&] { GrowingFile(path, 3); }), "another process");
  write_file_atomic(folder.path() / "b", "abc");
  EXPECT_SAYS(message_of<Error>([&] { GrowingFile(folder.path() / "b", 4); }),
              "expected at least 4 bytes of an earlier run, got 3");
}

TEST(GrowingFile, AFullDiskIsNamedWithTheByte) {
  const TemporaryFolder folder;
  GrowingFile file(folder.path() / "a", 0);
  const FullDisk full(4096);
  const std::string large(5000, 'x');
  const std::string message = message_of<Error>([&] { file.write(large.data(), large.size()); });
  EXPECT_SAYS(message, "writing byte 4096");
  EXPECT_SAYS(message, "free some space");
}

TEST(ReadFile, NamesTheFileAndTheReason) {
  const TemporaryFolder folder;
  const std::string message = message_of<Error>([&] { read_file(folder.path() / "absent"); });
  EXPECT_SAYS(message, "absent");
  EXPECT_SAYS(message, "No such file");
  EXPECT_SAYS(message_of<Error>([&] { read_file(folder.path()); }), "directory");
}

TEST(ReadFile, GivesAllOfWhatItKnowsTheSizeOfAndOfWhatItDoesNot) {
  const TemporaryFolder folder;
  for (const size_t size : {0, 1, 65536, 200000}) {
    std::string content;
    for (size_t i = 0; i < size; ++i) {
      content.push_back(static_cast<char>(i * i >> 7));
    }
    write_file_atomic(folder.path() / "a", content);
    EXPECT_EQ(read_file(folder.path() / "a"), content) << size;
  }
  EXPECT_SAYS(read_file("/proc/self/status"), "VmRSS");  // claims to be empty
}

TEST(MappedFile, ShowsTheBytesAndAnEmptyFileAsNone) {
  const TemporaryFolder folder;
  write_file_atomic(folder.path() / "a", "bytes");
  write_file_atomic(folder.path() / "empty", "");
  const MappedFile map(folder.path() / "a");
  EXPECT_EQ(std::string(map.bytes().begin(), map.bytes().end()), "bytes");
  EXPECT_TRUE(MappedFile(folder.path() / "empty").bytes().empty());
  EXPECT_SAYS(message_of<Error>([&] { const MappedFile none(folder.path() / "absent"); }),
              "absent");
  EXPECT_SAYS(message_of<Error>([&] { const MappedFile none(folder.path()); }), "directory");
}

// RFC 3720, appendix B.4.
TEST(Crc32c, GivesThePublishedValues) {
  const std::string digits = "123456789";
  EXPECT_EQ(crc32c({reinterpret_cast<const uint8_t*>(digits.data()), digits.size()}), 0xE3069283u);
  std::vector<uint8_t> bytes(32, 0);
  EXPECT_EQ(crc32c(bytes), 0x8A9136AAu);
  bytes.assign(32, 0xff);
  EXPECT_EQ(crc32c(bytes), 0x62A8AB43u);
  std::iota(bytes.begin(), bytes.end(), uint8_t{0});
  EXPECT_EQ(crc32c(bytes), 0x46DD794Eu);
}

TEST(Crc32c, PiecesChainToTheWholeAtEveryCut) {
  std::vector<uint8_t> bytes(101);
  std::iota(bytes.begin(), bytes.end(), uint8_t{7});
  const std::span<const uint8_t> all = bytes;
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    EXPECT_EQ(crc32c(all.subspan(cut), crc32c(all.first(cut))), crc32c(all)) << cut;
  }
}

}  // namespace
}  // namespace comba
