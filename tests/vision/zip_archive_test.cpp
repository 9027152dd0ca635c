// Zip archives by hand. Those of LibTorch's and Python's writers are read in torch_archive_test.cpp and tests/python/.
#include "vision/io/zip_archive.h"

#include "tests/base/temporary_folder.h"
#include "tests/vision/zip_pieces.h"
#include "vision/base/error.h"

#include <gtest/gtest.h>

namespace comba::vision {
namespace {

using testing_tools::message_of;
using testing_tools::zip;

std::span<const uint8_t> bytes_of(const std::string& archive) {
  return {reinterpret_cast<const uint8_t*>(archive.data()), archive.size()};
}

std::string refusal(const std::string& archive) {
  return message_of<Error>([&] { list_zip(bytes_of(archive), "w.pth"); });
}

TEST(ZipArchive, FilesAreFoundWhereTheyLie) {
  const std::string archive = zip(
      {{"a/one", "first"}, {"a/none", ""}, {.name = "a/two", .content = "second", .large = true}},
      "a comment");
  const auto files = list_zip(bytes_of(archive), "w.pth");
  ASSERT_EQ(files.size(), 3U);
  const auto text = [&](const char* name) {
    return std::string(files.at(name)->begin(), files.at(name)->end());
  };
  EXPECT_EQ(text("a/one"), "first");
  EXPECT_EQ(text("a/none"), "");
  EXPECT_EQ(text("a/two"), "second");
  EXPECT_TRUE(list_zip(bytes_of(zip({})), "w.pth").empty());
}

TEST(ZipArchive, PackedFilesAreListedWithoutTheirContent) {
  for (const testing_tools::ZipFile& packed :
       {testing_tools::ZipFile{.name = "a", .content = "x", .method = 8},
        testing_tools::ZipFile{.name = "a", .content = "x", .flags = 1}}) {
    const std::string archive = zip({packed, {"b", "y"}});
    const auto files = list_zip(bytes_of(archive), "w.pth");
    EXPECT_FALSE(files.at("a"));
    EXPECT_TRUE(files.at("b"));
  }
}

TEST(ZipArchive, WhatIsNoArchiveIsRefused) {
  EXPECT_SAYS(refusal(zip({{"a", "x"}, {"a", "y"}})), "two files a");
  EXPECT_SAYS(refusal("PK\x03\x04 and no more"), "its end is missing");
}

TEST(ZipArchive, NoSizeIsBelieved) {
  for (const bool large : {false, true}) {
    for (const int64_t lie : {int64_t{1} << 20, int64_t{0x7ffffff0}}) {
      EXPECT_SAYS(refusal(zip({{.name = "a", .content = "x", .lie = lie, .large = large}})),
                  "a: expected");
    }
  }
  EXPECT_SAYS(refusal(zip({{.name = "a", .lie = -2, .large = true}})), "a: expected");
  const std::string good = zip({{"a", "x"}});
  std::string many = good;
  many[good.size() - 12] = 2;  // files in the directory
  EXPECT_SAYS(refusal(many), "an entry of its directory: expected 46 bytes");
  std::string far = good;
  far.replace(good.size() - 6, 4, "\xff\xff\xff\x7f");  // its place
  EXPECT_SAYS(refusal(far), "an entry of its directory: expected 46 bytes");
  far.replace(good.size() - 6, 4, "\xff\xff\xff\xff");
  EXPECT_SAYS(refusal(far), "64-bit end is missing");
  for (size_t size = 0; size < good.size(); ++size) {
    refusal(good.substr(0, size));
  }
}

}  // namespace
}  // namespace comba::vision
