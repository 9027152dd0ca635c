// Counter-based random numbers.
#include "vision/base/random.h"

#include <cmath>
#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace comba {
namespace {

using Block = std::array<uint32_t, 4>;

// The known answers that Random123 publishes (kat_vectors, philox4x32 with 10 rounds).
TEST(Philox, GivesThePublishedAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kAll = 0xffffffff;
  EXPECT_EQ(philox4x32({kAll, kAll, kAll, kAll}, {kAll, kAll}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomStream, EveryPartOfTheKeyMatters) {
  std::set<uint32_t> first;
  for (const uint64_t seed : {0ull, 1ull, 1ull << 32}) {
    for (const uint64_t epoch : {0ull, 1ull}) {
      for (const uint64_t index : {0ull, 1ull, 1ull << 32}) {
        for (const RandomPurpose purpose : {RandomPurpose::crop, RandomPurpose::augment}) {
          first.insert(RandomStream(seed, epoch, index, purpose).next());
        }
      }
    }
  }
  EXPECT_EQ(first.size(), 3U * 2U * 3U * 2U);
}

TEST(RandomStream, TheSameKeyGivesTheSameDraws) {
  RandomStream a(1, 2, 3, RandomPurpose::mix), b(1, 2, 3, RandomPurpose::mix);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(a.next(), b.next());
  }
}

TEST(RandomStream, SeekingGivesTheDrawOfThatNumber) {
  RandomStream straight(1, 2, 3, RandomPurpose::mix), sought(1, 2, 3, RandomPurpose::mix);
  std::vector<uint32_t> draws;
  for (int i = 0; i < 20; ++i) {
    draws.push_back(straight.next());
  }
  for (const size_t first : {7U, 0U, 4U, 13U}) {
    sought.seek(first);
    for (size_t i = first; i < draws.size(); ++i) {
      EXPECT_EQ(sought.next(), draws[i]) << first << ", " << i;
    }
  }
}

TEST(RandomStream, UniformStaysInsideAndHasTheRightMoments) {
  RandomStream random(7, 0, 0, RandomPurpose::augment);
  constexpr int kDraws = 100000;
  double sum = 0, square = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.uniform(-2.0, 4.0);
    ASSERT_GE(x, -2.0);
    ASSERT_LT(x, 4.0);
    sum += x;
    square += x * x;
  }
  const double mean = sum / kDraws;
  EXPECT_NEAR(mean, 1.0, 5 * std::sqrt(3.0 / kDraws));  // five standard errors
  EXPECT_NEAR(square / kDraws - mean * mean, 3.0, 0.05);
}

TEST(RandomStream, NormalHasTheRightMoments) {
  RandomStream random(8, 0, 0, RandomPurpose::initialise);
  constexpr int kDraws = 100000;
  double sum = 0, square = 0, fourth = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.normal();
    sum += x;
    square += x * x;
    fourth += x * x * x * x;
  }
  EXPECT_NEAR(sum / kDraws, 0.0, 5 / std::sqrt(kDraws));
  EXPECT_NEAR(square / kDraws, 1.0, 5 * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(fourth / kDraws, 3.0, 5 * std::sqrt(96.0 / kDraws));
}

TEST(RandomStream, BelowIsUniformOverEveryValue) {
  RandomStream random(9, 0, 0, RandomPurpose::order);
  std::vector<int> counts(7);
  for (int i = 0; i < 70000; ++i) {
    const int64_t value = random.below(7);
    ASSERT_GE(value, 0);
    ASSERT_LT(value, 7);
    ++counts[static_cast<size_t>(value)];
  }
  for (const int count : counts) {
    EXPECT_NEAR(count, 10000, 500);  // more than five standard deviations
  }
  EXPECT_EQ(random.below(1), 0);
}

}  // namespace
}  // namespace comba
