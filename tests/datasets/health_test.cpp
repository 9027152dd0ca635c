// The condition of a set of images, against sets whose condition is known.
#include "datasets/health.h"

#include "datasets/decode.h"
#include "tests/datasets/memory_images.h"

#include <set>

#include <gtest/gtest.h>

namespace comba::datasets {
namespace {

const auto kQuiet = [](int64_t) {};

std::vector<MemoryImages::File> files(int count) {
  std::vector<MemoryImages::File> found;
  for (int i = 0; i < count; ++i) {
    found.push_back({std::to_string(i) + ".jpg", encode_jpeg(picture(10 + i % 3, 20, 3, i), 90)});
  }
  return found;
}

TEST(Health, CountsWhatIsThere) {
  auto images = files(7);
  images[2].bytes.clear();
  images[4].bytes = "a letter";
  images[5].bytes = encode_png(picture(99, 50, 1));
  const ImageHealth health = examine_images(MemoryImages(images), 0, 3, kQuiet);
  EXPECT_EQ(health.checked, 7);
  EXPECT_EQ(health.per_class, (std::vector<int64_t>{4, 3}));
  ASSERT_EQ(health.bad.size(), 2U);
  EXPECT_EQ(health.bad[0].path, "2.jpg");
  EXPECT_EQ(health.bad[0].problem, ImageProblem::empty);
  EXPECT_EQ(health.bad[1].problem, ImageProblem::unknown_format);
  EXPECT_EQ(health.short_sides, (std::map<int, int64_t>{{10, 3}, {11, 1}, {50, 1}}));
  EXPECT_EQ(health.peculiar,
            (std::map<std::string, int64_t>{{"grey", 1}, {"not JPEG", 1}, {"wrong extension", 1}}));
  int64_t bytes = 0;
  for (const size_t good : {0, 1, 3, 5, 6}) {
    bytes += static_cast<int64_t>(images[good].bytes.size());
  }
  EXPECT_EQ(health.bytes, bytes);
}

TEST(Health, ASampleIsSpreadAndAlwaysTheSame) {
  auto images = files(300);
  for (auto& image : images) {
    image.bytes.clear();  // so that those looked at are listed
  }
  const MemoryImages source(images);
  const auto looked_at = [&](int threads) {
    std::vector<int> found;
    for (const RejectedImage& image : examine_images(source, 60, threads, kQuiet).bad) {
      found.push_back(std::stoi(image.path));
    }
    return found;
  };
  const auto found = looked_at(1);
  EXPECT_EQ(std::set<int>(found.begin(), found.end()).size(), 60U);
  std::set<int> tenths;
  for (const int index : found) {
    tenths.insert(index / 30);
  }
  EXPECT_GE(tenths.size(), 9U);
  EXPECT_EQ(looked_at(4), found);
  EXPECT_EQ(examine_images(source, 1000, 2, kQuiet).checked, 300);
}

}  // namespace
}  // namespace comba::datasets
