// The head's size against OSTrack's printed one; decoding and losses against loops written out.
#include "tracking/head.h"

#include "tracking/losses.h"

#include <cmath>
#include <vector>

#include <ATen/Functions.h>
#include <gtest/gtest.h>
#include <torch/optim/adam.h>

namespace comba::tracking {
namespace {

int64_t parameters(const torch::nn::Module& module) {
  int64_t count = 0;
  for (const auto& parameter : module.parameters()) {
    count += parameter.numel();
  }
  return count;
}

TEST(CenterHead, HasOstracksParameters) {
  // 3 (9 (C 256 + 256 128 + 128 64 + 64 32) + 3 (256 + 128 + 64 + 32)) + 32 5 + 5
  EXPECT_EQ(parameters(*CenterHead(192, 256)), 2492805);  // 2.49 M
  EXPECT_EQ(parameters(*CenterHead(384, 256)), 3819909);  // 3.82 M
  EXPECT_EQ(parameters(*CenterHead(768, 256)), 6474117);  // 6.47 M
}

TEST(CenterHead, GivesMapsInTheirRanges) {
  at::manual_seed(1);
  CenterHead head(24, 32);
  const CenterMaps maps = head->forward(at::randn({2, 24, 16, 16}) * 100);
  EXPECT_EQ(maps.score.sizes(), (std::vector<int64_t>{2, 1, 16, 16}));
  EXPECT_EQ(maps.size.sizes(), (std::vector<int64_t>{2, 2, 16, 16}));
  EXPECT_EQ(maps.offset.sizes(), (std::vector<int64_t>{2, 2, 16, 16}));
  EXPECT_GE(maps.score.min().item<float>(), 1e-4F);
  EXPECT_LE(maps.score.max().item<float>(), 1 - 1e-4F + 1e-7F);
}

TEST(CenterHead, DecodesTheHighestCell) {
  CenterMaps maps{at::full({2, 1, 4, 4}, 0.1), at::zeros({2, 2, 4, 4}), at::zeros({2, 2, 4, 4})};
  maps.score[0][0][2][3] = 0.9;  // row 2, column 3
  maps.size[0][0][2][3] = 0.5;
  maps.size[0][1][2][3] = 0.25;
  maps.offset[0][0][2][3] = 0.5;
  maps.offset[0][1][2][3] = -0.25;
  maps.score[1][0][0][0] = 0.6;
  maps.score[1][0][1][1] = 0.5;
  const CenterBoxes plain = decode(maps);
  EXPECT_TRUE(at::allclose(plain.boxes[0], at::tensor({3.5 / 4, 1.75 / 4, 0.5, 0.25}, at::kFloat)));
  EXPECT_FLOAT_EQ(plain.score[0].item<float>(), 0.9F);
  EXPECT_FLOAT_EQ(plain.boxes[1][0].item<float>(), 0);
  // The window prefers the middle, and the score stays the cell's own.
  const CenterBoxes windowed = decode(maps, hann_window(4));
  EXPECT_FLOAT_EQ(windowed.boxes[1][0].item<float>(), 0.25F);
  EXPECT_FLOAT_EQ(windowed.score[1].item<float>(), 0.5F);
}

TEST(CenterHead, TheWindowIsNowhereZeroAndHighestInTheMiddle) {
  const torch::Tensor window = hann_window(16);
  EXPECT_GT(window.min().item<float>(), 0);
  EXPECT_NEAR(window[0][0].item<double>(), std::pow(0.5 * (1 - std::cos(2 * M_PI / 17)), 2), 1e-7);
  EXPECT_TRUE(at::allclose(window, window.flip({0, 1})));
  EXPECT_FLOAT_EQ(window.max().item<float>(), window[7][7].item<float>());
}

// CornerNet's drawing, cell by cell.
std::vector<double> drawn(const std::array<double, 4>& truth, int cells) {
  const double w = truth[2] * cells, h = truth[3] * cells;
  const double x = std::nearbyint(truth[0] * cells + w / 2),
               y = std::nearbyint(truth[1] * cells + h / 2);
  const double r1 = (h + w + std::sqrt(std::pow(h + w, 2) - 4 * w * h * 0.3 / 1.7)) / 2;
  const double r2 = (2 * (h + w) + std::sqrt(4 * std::pow(h + w, 2) - 16 * 0.3 * w * h)) / 2;
  const double r3 =
      (-1.4 * (h + w) + std::sqrt(std::pow(1.4 * (h + w), 2) + 4 * 2.8 * 0.3 * w * h)) / 2;
  const int radius = static_cast<int>(std::max(0.0, std::min({r1, r2, r3})));
  const double sigma = (2 * radius + 1) / 6.0;
  std::vector<double> map(static_cast<size_t>(cells * cells), 0.0);
  for (int dy = -radius; dy <= radius; ++dy) {
    for (int dx = -radius; dx <= radius; ++dx) {
      const int column = static_cast<int>(x) + dx, row = static_cast<int>(y) + dy;
      if (column >= 0 && row >= 0 && column < cells && row < cells) {
        map[static_cast<size_t>(row) * static_cast<size_t>(cells) + static_cast<size_t>(column)] =
            std::exp(-(dx * dx + dy * dy) / (2 * sigma * sigma));
      }
    }
  }
  return map;
}

const std::vector<std::array<double, 4>> kTruth = {{0.4, 0.3, 0.25, 0.3}, {0.0, 0.0, 0.9, 0.8},
                                                   {0.9, 0.5, 0.2, 0.1},  {0.5, 0.5, 0.01, 0.01},
                                                   {-0.1, 0.2, 0.3, 0.3}, {0.0, 0.0, 1.9, 1.9}};

torch::Tensor truth_tensor() {
  std::vector<double> flat;
  for (const auto& box : kTruth) {
    flat.insert(flat.end(), box.begin(), box.end());
  }
  return at::tensor(flat, at::kDouble).view({-1, 4});
}

TEST(CenterTargets, AreDrawnAsCornerNetDraws) {
  const torch::Tensor maps = center_targets(truth_tensor(), 16);
  for (size_t n = 0; n < kTruth.size(); ++n) {
    const auto want = drawn(kTruth[n], 16);
    for (int64_t i = 0; i < 256; ++i) {
      EXPECT_NEAR(maps[static_cast<int64_t>(n)].flatten()[i].item<double>(),
                  want[static_cast<size_t>(i)], 1e-12)
          << "box " << n << " cell " << i;
    }
  }
}

TEST(FocalLoss, IsItsSumWrittenOut) {
  at::manual_seed(2);
  const torch::Tensor score = at::rand({6, 16, 16}, at::kDouble) * 0.98 + 0.01;
  const torch::Tensor target = center_targets(truth_tensor(), 16);
  double sum = 0, hits = 0;
  for (int64_t i = 0; i < score.numel(); ++i) {
    const double p = score.flatten()[i].item<double>(), t = target.flatten()[i].item<double>();
    if (t == 1) {
      sum -= std::log(p) * std::pow(1 - p, 2);
      ++hits;
    } else {
      sum -= std::log(1 - p) * p * p * std::pow(1 - t, 4);
    }
  }
  EXPECT_EQ(hits, 5);  // the last box's centre is beyond the image
  EXPECT_NEAR(focal_loss(score, target).item<double>(), sum / hits, 1e-9);
  EXPECT_GT(focal_loss(score, at::zeros_like(score)).item<double>(), 0);  // no hit: the plain sum
}

TEST(GeneralizedIou, IsOneZeroOrNegativeWhereItMust) {
  const auto of = [](std::array<double, 4> a, std::array<double, 4> b) {
    return generalized_iou(at::tensor(at::ArrayRef<double>(a.data(), 4)).view({1, 4}),
                           at::tensor(at::ArrayRef<double>(b.data(), 4)).view({1, 4}))
        .item<double>();
  };
  EXPECT_NEAR(of({0, 0, 1, 1}, {0, 0, 1, 1}), 1, 1e-6);
  EXPECT_NEAR(of({0, 0, 2, 1}, {1, 0, 3, 1}), 1.0 / 3, 1e-6);
  EXPECT_NEAR(of({0, 0, 1, 1}, {1, 0, 2, 1}), 0, 1e-6);     // side by side
  EXPECT_NEAR(of({0, 0, 1, 1}, {3, 0, 4, 1}), -0.5, 1e-6);  // two of four are empty
  EXPECT_NEAR(of({0, 0, 2, 2}, {1, 1, 3, 3}), 1.0 / 7 - 2.0 / 9, 1e-6);
  EXPECT_TRUE(std::isfinite(of({1, 1, 0, 0}, {0, 0, 0, 0})));  // no area at all
}

TEST(TrackingLoss, ItsGradientsLeadToTheBox) {
  at::manual_seed(3);
  const auto leaf = [](at::IntArrayRef sizes) {
    return at::randn(sizes).mul_(0.1).set_requires_grad(true);
  };
  const torch::Tensor score = leaf({3, 1, 8, 8}), size = leaf({3, 2, 8, 8}),
                      offset = leaf({3, 2, 8, 8});
  const torch::Tensor truth =
      at::tensor({0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.2, 0.1, 0.6, 0.05, 0.5, 0.5}, at::kFloat)
          .view({3, 4});
  torch::optim::Adam optimizer({score, size, offset}, torch::optim::AdamOptions(0.05));
  TrackingLoss loss;
  for (int step = 0; step < 300; ++step) {
    loss = tracking_loss({score.sigmoid().clamp(1e-4, 1 - 1e-4), size.sigmoid(), offset}, truth);
    optimizer.zero_grad();
    loss.total.backward();
    optimizer.step();
  }
  EXPECT_GT(loss.iou.item<float>(), 0.97F);
  EXPECT_LT(loss.focal.item<float>(), 0.05F);
  EXPECT_FALSE(loss.iou.requires_grad());
}

}  // namespace
}  // namespace comba::tracking
