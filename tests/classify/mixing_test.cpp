// Mixup and CutMix against their definitions pixel by pixel, and the distributions they are drawn from.
#include "classify/mixing.h"

#include <cmath>

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

// Of Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)).
TEST(Mixing, SharesAreBetaDistributed) {
  for (const double a : {0.2, 0.8, 1.0, 3.0}) {
    const auto mixes = draw_mixes({.mixup = a, .mode = "image"}, kDraws, 32, 9, 0, 0);
    double sum = 0, square = 0;
    for (const Mix& m : mixes) {
      ASSERT_GE(m.share, 0);
      ASSERT_LE(m.share, 1);
      sum += m.share;
      square += (m.share - 0.5) * (m.share - 0.5);
    }
    const double variance = 1 / (4 * (2 * a + 1));
    EXPECT_NEAR(sum / kDraws, 0.5, 5 * std::sqrt(variance / kDraws)) << a;
    EXPECT_NEAR(square / kDraws, variance, 0.02 * variance) << a;
  }
}

TEST(Mixing, BoxesLieInTheImageAndSharesAreTheirTrueAreas) {
  const auto mixes = draw_mixes({.cutmix = 1.0, .mode = "image"}, kDraws, 224, 9, 0, 1);
  double top = 0;
  for (const Mix& m : mixes) {
    ASSERT_GE(m.box.y, 0);
    ASSERT_GE(m.box.x, 0);
    ASSERT_LE(m.box.y + m.box.height, 224);
    ASSERT_LE(m.box.x + m.box.width, 224);
    ASSERT_NEAR(m.share, 1.0 - double(m.box.height) * m.box.width / (224.0 * 224.0), 1e-12);
    top += m.box.y + m.box.height / 2.0;
  }
  EXPECT_NEAR(top / kDraws, 112, 1.0);
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

}  // namespace
}  // namespace comba::classify
