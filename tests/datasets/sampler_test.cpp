// The keyed permutation that orders an epoch.
#include "datasets/sampler.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace comba::datasets {
namespace {

std::vector<int64_t> all(int64_t size, uint64_t seed, uint64_t epoch) {
  const Permutation permutation(size, seed, epoch);
  std::vector<int64_t> out;
  for (int64_t i = 0; i < size; ++i) {
    out.push_back(permutation[i]);
  }
  return out;
}

TEST(PermutationTest, EveryIndexComesOnce) {
  for (const int64_t size : {1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1000, 4097}) {
    std::vector<int64_t> order = all(size, 3, 1);
    std::sort(order.begin(), order.end());
    for (int64_t i = 0; i < size; ++i) {
      ASSERT_EQ(order[static_cast<size_t>(i)], i) << size;
    }
  }
}

TEST(PermutationTest, SeedAndEpochChangeTheOrder) {
  const auto first = all(100, 0, 0);
  EXPECT_EQ(all(100, 0, 0), first);
  EXPECT_NE(all(100, 0, 1), first);
  EXPECT_NE(all(100, 1, 0), first);
  EXPECT_NE(all(100, uint64_t{1} << 32, 0), first);
}

// Each position is hit by each index equally often over many epochs: a chi-square statistic of 81 degrees of freedom
// lies within six of its standard deviations (12.7) of its mean.
TEST(PermutationTest, IsUniformOverEpochs) {
  constexpr int kSize = 10, kEpochs = 20000;
  double counts[kSize][kSize] = {};
  for (int epoch = 0; epoch < kEpochs; ++epoch) {
    const Permutation permutation(kSize, 11, static_cast<uint64_t>(epoch));
    for (int i = 0; i < kSize; ++i) {
      ++counts[i][permutation[i]];
    }
  }
  constexpr double kExpected = static_cast<double>(kEpochs) / kSize;
  double statistic = 0;
  for (const auto& row : counts) {
    for (const double count : row) {
      statistic += (count - kExpected) * (count - kExpected) / kExpected;
    }
  }
  EXPECT_NEAR(statistic, 81, 6 * 12.7);
}

}  // namespace
}  // namespace comba::datasets
