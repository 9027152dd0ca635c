#include "datasets/gpu_share.h"

#include <gtest/gtest.h>

namespace comba::datasets {
namespace {

constexpr int64_t kImages = 20000;

int64_t count_of(double share) {
  int64_t count = 0;
  for (int64_t i = 0; i < kImages; ++i) {
    count += in_gpu_share(i, share) ? 1 : 0;
  }
  return count;
}

TEST(GpuShare, HoldsAsManyImagesAsItSays) {
  EXPECT_EQ(count_of(0.0), 0);
  EXPECT_EQ(count_of(1.0), kImages);
  // Six standard deviations of a binomial draw.
  EXPECT_NEAR(static_cast<double>(count_of(0.3)), 0.3 * kImages, 390);
}

TEST(GpuShare, HoldsWhatASmallerOneHolds) {
  for (int64_t i = 0; i < kImages; ++i) {
    EXPECT_TRUE(in_gpu_share(i, 0.6) || !in_gpu_share(i, 0.4)) << i;
  }
}

// A change of the hash would make runs begun earlier go on with other pixels.
TEST(GpuShare, IsTheSameInEveryRelease) {
  uint32_t first = 0;
  for (int64_t i = 0; i < 32; ++i) {
    first |= static_cast<uint32_t>(in_gpu_share(i, 0.5)) << i;
  }
  EXPECT_EQ(first, 0x6bf66125U);
}

}  // namespace
}  // namespace comba::datasets
