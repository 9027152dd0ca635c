// Made-up ImageNet: read back by what reads the real one.
#include "datasets/synthetic_imagenet.h"

#include "datasets/decode.h"
#include "datasets/inspect.h"
#include "datasets/source.h"
#include "tests/base/temporary_folder.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

#include <map>

namespace comba::datasets {
namespace {
namespace fs = std::filesystem;

using testing_tools::message_of;
using testing_tools::TemporaryFolder;

const auto kQuiet = [](int64_t) {};

std::map<std::string, std::string> contents(const fs::path& root) {
  std::map<std::string, std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (entry.is_regular_file()) {
      found[entry.path().lexically_relative(root)] = read_file(entry.path());
    }
  }
  return found;
}

TEST(SyntheticImagenet, IsReadAsImagenetIsWithItsUnusualFiles) {
  const TemporaryFolder root;
  int64_t told = 0;
  write_synthetic_imagenet(root.path() / "i",
                           {.classes = 2, .per_class = 40, .validation = 15, .threads = 1},
                           [&](int64_t done) { told = done; });
  EXPECT_EQ(told, 95);
  const auto train = open_images(root.path() / "i", "train"),
             val = open_images(root.path() / "i", "val");
  EXPECT_EQ(train->size(), 80);
  EXPECT_EQ(val->size(), 15);
  EXPECT_EQ(train->classes(), (std::vector<std::string>{"n00000001", "n00000002"}));
  EXPECT_EQ(val->classes(), train->classes());
  std::map<std::string, int> unusual;
  std::map<int64_t, int> labels;
  double bytes = 0;
  for (int64_t i = 0; i < train->size(); ++i) {
    const EncodedSample sample = train->read(i);
    const Image image = decode_image(sample.bytes, 3, sample.name);
    EXPECT_GE(std::min(image.width, image.height), 300);
    bytes += static_cast<double>(sample.bytes.size());
    for (const std::string& what :
         peculiarities(inspect_image(sample.bytes, sample.name), sample.name)) {
      ++unusual[what];
    }
  }
  for (int64_t i = 0; i < val->size(); ++i) {
    ++labels[val->label(i)];
  }
  const std::map<std::string, int> expected = {{"grey", 1},
                                               {"CMYK", 1},
                                               {"progressive", 1},
                                               {"not JPEG", 1},
                                               {"wrong extension", 1},
                                               {"EXIF orientation (not applied)", 1}};
  EXPECT_EQ(unusual, expected);
  EXPECT_NEAR(bytes / 80, 110e3, 30e3);
  EXPECT_EQ(labels[0], 8);
  EXPECT_EQ(labels[1], 7);
}

TEST(SyntheticImagenet, TheSameSeedGivesTheSameBytesWhateverTheThreads) {
  const TemporaryFolder root;
  const auto make = [&](const char* name, uint64_t seed, int threads) {
    write_synthetic_imagenet(
        root.path() / name,
        {.seed = seed, .classes = 2, .per_class = 3, .validation = 2, .threads = threads}, kQuiet);
    return contents(root.path() / name);
  };
  const auto first = make("a", 5, 1);
  EXPECT_EQ(first.size(), 9U);
  EXPECT_EQ(make("b", 5, 4), first);
  EXPECT_NE(make("c", 6, 1), first);
}

TEST(SyntheticImagenet, AFolderThatHoldsSomethingIsLeftAlone) {
  const TemporaryFolder root;
  write_file_atomic(root.path() / "mine", "x");
  EXPECT_SAYS(message_of<Error>([&] { write_synthetic_imagenet(root.path(), {}, kQuiet); }),
              "new or empty folder");
}

}  // namespace
}  // namespace comba::datasets
