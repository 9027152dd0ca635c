// Random erasing: what is drawn against its definition laid out on a grid, what is filled against the definition of its
// noise.
#include "datasets/erase.h"

#include "tests/datasets/box_distribution.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace comba::datasets {
namespace {

constexpr int kDraws = 100'000, kSide = 224;

TEST(NormalTable, HoldsTheQuantilesOfEqualShares) {
  const auto& table = normal_table();
  double square = 0;
  for (size_t i = 0; i < table.size(); ++i) {
    const double x = table[i];
    const double below = 0.5 * std::erfc(-x / std::numbers::sqrt2);
    const double density = std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
    // Half a step of fp32 moves the share by density times it.
    EXPECT_NEAR(below, (static_cast<double>(i) + 0.5) / 4096,
                density * std::abs(x) * 0x1p-24 + 1e-15)
        << i;
    EXPECT_EQ(table[4095 - i], -table[i]);
    square += x * x;
  }
  EXPECT_NEAR(square / 4096, 0.9997, 5e-5);
  EXPECT_NEAR(table.back(), 3.668329285, 1e-6);
}

std::vector<float> filled(const std::string& mode, const ImageBox& box, int number, int side,
                          int channels, const SampleKey& key) {
  std::vector<float> out(static_cast<size_t>(box.height) * box.width * channels);
  EXPECT_EQ(fill_erased(mode, box, number, side, channels, key, out.data()),
            out.data() + out.size());
  return out;
}

// As defined: entry of the upper 12 of the random bits of the element's number.
float defined_noise(const SampleKey& key, int64_t element) {
  RandomStream random = key.draws(RandomPurpose::erase_noise);
  uint32_t bits = random.next();
  for (int64_t i = 0; i < element; ++i) {
    bits = random.next();
  }
  return normal_table()[bits >> 20];
}

TEST(Erasing, NoiseIsThatOfTheElementWhateverTheBox) {
  const SampleKey key{3, 1, 4, 1};
  constexpr int kSmall = 9;
  for (const ImageBox& box : {ImageBox{0, 0, 9, 9}, ImageBox{2, 5, 4, 3}, ImageBox{8, 1, 1, 7}}) {
    const auto values = filled("pixel", box, 2, kSmall, 3, key);
    size_t at = 0;
    for (int c = 0; c < 3; ++c) {
      for (int y = box.y; y < box.y + box.height; ++y) {
        for (int x = box.x; x < box.x + box.width; ++x) {
          ASSERT_EQ(values[at++], defined_noise(key, (c * kSmall + y) * kSmall + x));
        }
      }
    }
  }
}

TEST(Erasing, AColourIsOnePerBoxAndChannel) {
  const SampleKey key{3, 1, 4, 0};
  const ImageBox box{1, 1, 2, 3};
  for (const int number : {0, 1}) {
    const auto values = filled("colour", box, number, 9, 3, key);
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_EQ(values[i], defined_noise(key, number * 3 + static_cast<int64_t>(i) / 6));
    }
  }
  EXPECT_NE(filled("colour", box, 0, 9, 3, key), filled("colour", box, 1, 9, 3, key));
}

TEST(Erasing, ConstIsTheMean) {
  EXPECT_EQ(filled("const", {1, 1, 2, 3}, 0, 9, 1, {}), std::vector<float>(6, 0.F));
}

TEST(Erasing, NoiseIsStandardNormal) {
  const auto values = filled("pixel", {0, 0, 183, 183}, 0, 183, 3, {11, 0, 0, 0});
  const auto n = static_cast<double>(values.size());
  double sum = 0, square = 0, beside = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    sum += values[i];
    square += double(values[i]) * values[i];
    beside += i == 0 ? 0 : double(values[i]) * values[i - 1];
  }
  EXPECT_GT(n, 1e5);
  EXPECT_NEAR(sum / n, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(square / n, 0.9997, 5 * std::sqrt(2 / n));
  EXPECT_NEAR(beside / n, 0, 5 / std::sqrt(n));  // neighbours are independent
  for (const double x : {-2.0, -1.0, -0.3, 0.5, 1.5}) {
    expect_share(std::count_if(values.begin(), values.end(), [&](float v) { return v < x; }),
                 static_cast<int64_t>(values.size()), 0.5 * std::erfc(-x / std::numbers::sqrt2),
                 1.0 / 8192);
  }
}

TEST(Erasing, DependsOnTheWholeKeyAlone) {
  const EraseOptions options{.probability = 1};
  const auto drawn = [&](const SampleKey& key) {
    const ImageBox box = draw_erasing(options, kSide, key).at(0);
    return std::vector<int>{box.y, box.x, box.height, box.width};
  };
  const SampleKey key{1, 2, 3, 1};
  EXPECT_EQ(drawn(key), drawn(key));
  for (const SampleKey& other : {SampleKey{0, 2, 3, 1}, SampleKey{1, 0, 3, 1},
                                 SampleKey{1, 2, 0, 1}, SampleKey{1, 2, 3, 0}}) {
    EXPECT_NE(drawn(other), drawn(key));
    EXPECT_NE(filled("pixel", {0, 0, 4, 4}, 0, 9, 1, other),
              filled("pixel", {0, 0, 4, 4}, 0, 9, 1, key));
  }
}

TEST(Erasing, NeverLeavesTheImageNorFillsIt) {
  for (const int side : {1, 2, 3, 8, 224}) {
    for (int64_t i = 0; i < 2000; ++i) {
      for (const ImageBox& box : draw_erasing({.probability = 1, .count = 3}, side, {5, 0, i, 0})) {
        ASSERT_GT(box.height, 0);
        ASSERT_GT(box.width, 0);
        ASSERT_LT(box.height, side);
        ASSERT_LT(box.width, side);
        ASSERT_GE(std::min(box.y, box.x), 0);
        ASSERT_LE(std::max(box.y + box.height, box.x + box.width), side);
      }
    }
  }
}

TEST(Erasing, IsDoneAsOftenAsAskedAndNeverAtZero) {
  int64_t erased = 0;
  for (int64_t i = 0; i < kDraws; ++i) {
    erased += !draw_erasing({.probability = 0.25}, kSide, {7, 3, i, 0}).empty();
    ASSERT_TRUE(draw_erasing({.probability = 0}, kSide, {7, 3, i, 0}).empty());
  }
  expect_share(erased, kDraws, 0.25);  // ten tries in a row never fail at this size
}

TEST(Erasing, AreasAndAspectsFollowTheirDefinition) {
  const double area = kSide * kSide;
  const BoxDistribution expected({0.02 * area, area / 3}, {0.3, 1 / 0.3}, false,
                                 [](double h, double w) { return h < kSide && w < kSide; });
  std::vector<ImageBox> boxes;
  for (int64_t i = 0; i < kDraws; ++i) {
    boxes.push_back(draw_erasing({.probability = 1}, kSide, {8, 3, i, 0}).at(0));
  }
  const auto compare = [&](const auto& test) {
    expect_share(std::count_if(boxes.begin(), boxes.end(),
                               [&](const ImageBox& b) { return test(b.height, b.width); }),
                 kDraws, expected.share(test), BoxDistribution::kSlack);
  };
  for (const double share : {0.03, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.32}) {
    SCOPED_TRACE(share);
    compare([&](double h, double w) { return h * w < share * area; });
  }
  for (const double aspect : {0.35, 0.5, 0.8, 1.25, 2.0, 3.0}) {
    SCOPED_TRACE(aspect);
    compare([&](double h, double w) { return h < aspect * w; });
  }
}

TEST(Erasing, PlacesAreUniform) {
  double top = 0, left = 0;
  for (int64_t i = 0; i < kDraws; ++i) {
    const ImageBox box = draw_erasing({.probability = 1}, kSide, {9, 3, i, 0}).at(0);
    top += (box.y + 0.5) / (kSide - box.height + 1);
    left += (box.x + 0.5) / (kSide - box.width + 1);
  }
  const double bound =
      5 * std::sqrt(1.0 / 12 / kDraws);  // a uniform value's variance is at most 1/12
  EXPECT_NEAR(top / kDraws, 0.5, bound);
  EXPECT_NEAR(left / kDraws, 0.5, bound);
}

TEST(Erasing, SeveralBoxesShareTheArea) {
  int64_t counts[4] = {};
  for (int64_t i = 0; i < kDraws; ++i) {
    const auto boxes = draw_erasing({.probability = 1, .count = 3}, kSide, {10, 3, i, 0});
    ASSERT_LE(boxes.size(), 3U);
    ++counts[boxes.size()];
    for (const ImageBox& box : boxes) {
      const double most = kSide * kSide / 3.0 / static_cast<double>(boxes.size());
      const double rounding = (box.height + box.width) / 2.0 + 0.25;  // half a px on either side
      ASSERT_LE(double(box.height) * box.width, most + rounding);
    }
  }
  for (const int n : {1, 2, 3}) {
    expect_share(counts[n], kDraws, 1.0 / 3);
  }
}

}  // namespace
}  // namespace comba::datasets
