// Mixup and CutMix against their definitions pixel by pixel, and the distributions they are drawn from.
#include "classify/mixing.h"

#include "vision/base/error.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/ops/arange.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

namespace comba::classify {
namespace {

constexpr int kDraws = 100'000;

// As defined: own pixels by the share, or the partner's inside the box.
void expect_mixed(const at::Tensor& images, const at::Tensor& mixed,
                  const std::vector<Mix>& mixes) {
  const int64_t count = images.size(0);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t first = i / kMixGroup * kMixGroup;
    const int64_t partner = first + std::min(first + kMixGroup, count) - 1 - i;
    const Mix& m = mixes[static_cast<size_t>(i)];
    for (int y = 0; y < images.size(2); ++y) {
      for (int x = 0; x < images.size(3); ++x) {
        const double own = images[i][0][y][x].item<double>(),
                     other = images[partner][0][y][x].item<double>();
        const bool inside =
            y >= m.box.y && y < m.box.y + m.box.height && x >= m.box.x && x < m.box.x + m.box.width;
        const double want =
            m.cut() ? (inside ? other : own) : m.share * own + (1 - m.share) * other;
        ASSERT_NEAR(mixed[i][0][y][x].item<double>(), want, 1e-6) << i << " at " << y << ", " << x;
      }
    }
  }
}

TEST(Mixing, BlendsOrCutsEveryPixelAsDefined) {
  const at::Tensor images = at::randn({70, 1, 6, 6});
  int cuts = 0, blends = 0;
  for (const char* mode : {"batch", "image"}) {
    for (int64_t batch = 0; batch < 4; ++batch) {
      const MixOptions options{.mixup = 0.8, .cutmix = 1.0, .probability = 0.8, .mode = mode};
      const auto mixes = draw_mixes(options, 70, 6, 1, 2, batch);
      for (const Mix& m : mixes) {
        cuts += m.cut();
        blends += !m.cut() && m.share < 1;
      }
      expect_mixed(images, mix_images(images, mixes), mixes);
    }
  }
  EXPECT_GT(cuts, 0);
  EXPECT_GT(blends, 0);
}

TEST(Mixing, LabelsAreMixedByTheShareOfTheImages) {
  const at::Tensor labels = at::arange(4);
  std::vector<Mix> mixes(4);
  mixes[1].share = 0.75;
  const at::Tensor target = mix_labels(labels, mixes, 5, 0.1);
  const double on = 0.9 + 0.02, off = 0.02;
  for (int64_t i = 0; i < 4; ++i) {
    for (int64_t c = 0; c < 5; ++c) {
      const double own = c == i ? on : off, other = c == 3 - i ? on : off;
      const double want = i == 1 ? 0.75 * own + 0.25 * other : own;
      EXPECT_NEAR(target[i][c].item<double>(), want, 1e-6);
    }
  }
}

TEST(Mixing, DependsOnSeedEpochAndBatchAlone) {
  const MixOptions options{.mixup = 0.8, .cutmix = 1.0, .mode = "image"};
  const auto shares = [&](uint64_t seed, int64_t epoch, int64_t batch) {
    std::vector<double> all;
    for (const Mix& m : draw_mixes(options, 16, 32, seed, epoch, batch)) {
      all.push_back(m.share);
    }
    return all;
  };
  EXPECT_EQ(shares(1, 2, 3), shares(1, 2, 3));
  EXPECT_NE(shares(1, 2, 3), shares(0, 2, 3));
  EXPECT_NE(shares(1, 2, 3), shares(1, 0, 3));
  EXPECT_NE(shares(1, 2, 3), shares(1, 2, 0));
}

TEST(Mixing, OneDrawServesABatchOfThatMode) {
  const auto mixes = draw_mixes({.mixup = 0.8, .mode = "batch"}, 10, 32, 1, 1, 1);
  for (const Mix& m : mixes) {
    EXPECT_EQ(m.share, mixes[0].share);
  }
}

TEST(Mixing, IsOffFromItsEpochOn) {
  EXPECT_FALSE(MixOptions{}.on(0));
  const MixOptions options{.cutmix = 1.0, .off_epoch = 5};
  EXPECT_TRUE(options.on(4));
  EXPECT_FALSE(options.on(5));
}

// Distribution function of Beta(a, a) at x <= 1/2: the integral of its density, in t = x^a, where it is smooth.
double beta_below(double a, double x) {
  const auto integral = [a](double to) {
    constexpr int kSteps = 20'000;
    const double end = std::pow(to, a);
    double sum = 0;
    for (int i = 0; i < kSteps; ++i) {
      sum += std::pow(1 - std::pow((i + 0.5) * end / kSteps, 1 / a), a - 1);
    }
    return sum * end / kSteps;
  };
  return 0.5 * integral(x) / integral(0.5);
}

// Bounds are five standard errors: of a mean sqrt(variance / draws), of a share sqrt(p (1 - p) / draws).
TEST(Mixing, SharesAreBetaDistributed) {
  for (const double a : {0.2, 0.8, 1.0, 3.0}) {
    SCOPED_TRACE(a);
    const auto mixes = draw_mixes({.mixup = a, .mode = "image"}, kDraws, 32, 9, 0, 0);
    double sum = 0, square = 0;
    for (const Mix& m : mixes) {
      ASSERT_GE(m.share, 0);
      ASSERT_LE(m.share, 1);
      sum += m.share;
      square += (m.share - 0.5) * (m.share - 0.5);
    }
    const double variance = 1 / (4 * (2 * a + 1));
    const double fourth = variance * variance * (3 - 6 / (2 * a + 3));  // central moment
    EXPECT_NEAR(sum / kDraws, 0.5, 5 * std::sqrt(variance / kDraws));
    EXPECT_NEAR(square / kDraws, variance, 5 * std::sqrt((fourth - variance * variance) / kDraws));
    for (const double x : {0.05, 0.1, 0.2, 0.3, 0.4, 0.5}) {
      const double below = beta_below(a, x);
      int64_t low = 0, high = 0;
      for (const Mix& m : mixes) {
        low += m.share < x;
        high += m.share > 1 - x;
      }
      const double bound = 5 * std::sqrt(kDraws * below * (1 - below));
      EXPECT_NEAR(low, kDraws * below, bound) << x;
      EXPECT_NEAR(high, kDraws * below, bound) << x;
    }
  }
}

TEST(Mixing, BoxesLieInTheImageAndSharesAreTheirTrueAreas) {
  for (const Mix& m : draw_mixes({.cutmix = 1.0, .mode = "image"}, kDraws, 224, 9, 0, 1)) {
    ASSERT_GE(m.box.y, 0);
    ASSERT_GE(m.box.x, 0);
    ASSERT_LE(m.box.y + m.box.height, 224);
    ASSERT_LE(m.box.x + m.box.width, 224);
    ASSERT_NEAR(m.share, 1.0 - double(m.box.height) * m.box.width / (224.0 * 224.0), 1e-12);
  }
}

// Mean and variance of the area and of the middle of a clipped box, summed over all of its half sides k and places:
// lambda is uniform, so that sqrt(1 - lambda) is below t with probability t^2.
TEST(Mixing, BoxAreasAndPlacesAreThoseOfUniformCentres) {
  constexpr int kSide = 224;
  double area = 0, area_square = 0, middle = 0, middle_square = 0;
  for (int k = 0; k < kSide / 2; ++k) {
    const double chance = (4.0 * (k + 1) * (k + 1) - 4.0 * k * k) / (double(kSide) * kSide);
    double length = 0, length_square = 0;  // of a side, over all centres
    for (int y = 0; y < kSide; ++y) {
      const int top = std::max(0, y - k), bottom = std::min(kSide, y + k);
      length += double(bottom - top) / kSide;
      length_square += double(bottom - top) * (bottom - top) / kSide;
      const double m = (top + bottom) / 2.0;
      middle += chance * m / kSide;
      middle_square += chance * m * m / kSide;
    }
    area += chance * length * length;
    area_square += chance * length_square * length_square;
  }
  double areas = 0, middles = 0;
  for (const Mix& m : draw_mixes({.cutmix = 1.0, .mode = "image"}, kDraws, kSide, 9, 0, 1)) {
    areas += double(m.box.height) * m.box.width;
    middles += m.box.y + m.box.height / 2.0;
  }
  EXPECT_NEAR(areas / kDraws, area, 5 * std::sqrt((area_square - area * area) / kDraws));
  EXPECT_NEAR(middles / kDraws, middle, 5 * std::sqrt((middle_square - middle * middle) / kDraws));
}

// Ranks that hold whole groups mix alone what one would mix for all.
TEST(Mixing, DoesNotDependOnHowManyShareABatch) {
  const at::Tensor images = at::randn({256, 1, 4, 4}), labels = at::arange(256);
  for (const char* mode : {"batch", "image"}) {
    const MixOptions options{.mixup = 0.8, .cutmix = 1.0, .mode = mode};
    const auto mixes = draw_mixes(options, 256, 4, 1, 2, 3);
    const at::Tensor whole = mix_images(images, mixes), targets = mix_labels(labels, mixes, 256, 0);
    for (const int64_t ranks : {2, 4}) {
      const int64_t size = 256 / ranks;
      for (int64_t first = 0; first < 256; first += size) {
        const std::vector<Mix> own(mixes.begin() + first, mixes.begin() + first + size);
        EXPECT_TRUE(
            mix_images(images.narrow(0, first, size), own).equal(whole.narrow(0, first, size)));
        EXPECT_TRUE(mix_labels(labels.narrow(0, first, size), own, 256, 0)
                        .equal(targets.narrow(0, first, size)));
      }
    }
  }
}

TEST(Mixing, BothKindsComeInTheirShares) {
  const MixOptions options{
      .mixup = 0.8, .cutmix = 1.0, .probability = 0.7, .cutmix_share = 0.25, .mode = "image"};
  int cut = 0, blended = 0;
  for (const Mix& m : draw_mixes(options, kDraws, 10000, 9, 0, 2)) {
    cut += m.cut();
    blended += !m.cut() && m.share < 1;
  }
  const auto deviation = [](double share) { return 5 * std::sqrt(kDraws * share * (1 - share)); };
  EXPECT_NEAR(cut, kDraws * 0.7 * 0.25, deviation(0.175));
  EXPECT_NEAR(blended, kDraws * 0.7 * 0.75, deviation(0.525));
}

TEST(Mixing, NeedsToKnowOfEveryImage) {
  const std::vector<Mix> one(1, Mix{0.5, {}});
  EXPECT_THROW(mix_images(at::randn({2, 1, 4, 4}), one), Error);
  EXPECT_THROW(mix_labels(at::arange(2), one, 3, 0.0), Error);
}

}  // namespace
}  // namespace comba::classify
