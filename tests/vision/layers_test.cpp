// Layers against their formulas written as loops, and their gradients against finite differences.
#include "vision/nn/layers.h"

#include "tests/vision/finite_differences.h"

#include <cmath>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

namespace comba::vision {
namespace {

at::Tensor random(at::IntArrayRef shape) { return at::randn(shape, at::kDouble); }

TEST(Norm, RmsAgreesWithTheFormula) {
  at::manual_seed(4);
  Norm norm("rms", 6, 1e-6);
  norm->to(at::kDouble);
  const at::Tensor weight = random({6}), x = random({3, 6});
  {
    const at::NoGradGuard no_grad;
    norm->weight.copy_(weight);
  }
  const at::Tensor y = norm(x);
  for (int64_t row = 0; row < 3; ++row) {
    double square = 0;
    for (int64_t i = 0; i < 6; ++i) {
      square += std::pow(x[row][i].item<double>(), 2);
    }
    for (int64_t i = 0; i < 6; ++i) {
      const double expected =
          x[row][i].item<double>() / std::sqrt(square / 6 + 1e-6) * weight[i].item<double>();
      EXPECT_NEAR(y[row][i].item<double>(), expected, 1e-12);
    }
  }
}

TEST(Norm, RmsAndL2GradientsAreThoseOfFiniteDifferences) {
  at::manual_seed(5);
  const at::Tensor probe = random({2, 3, 5});
  Norm norm("rms", 5, 1e-3);
  norm->to(at::kDouble);
  expect_gradients([&](const auto& in) { return (norm(in[0]) * probe).sum(); },
                   {random({2, 3, 5})});
  expect_gradients([&](const auto& in) { return (l2_normalize(in[0], 1e-3) * probe).sum(); },
                   {random({2, 3, 5})});
}

TEST(Norm, L2HasItsEpsInsideTheRootAndMapsZeroToZero) {
  const at::Tensor x = at::zeros({2, 4}, at::kDouble);
  x[1][2] = 3e-3;
  const at::Tensor y = l2_normalize(x, 1e-6);
  EXPECT_EQ(y[0].abs().sum().item<double>(), 0.0);
  EXPECT_NEAR(y[1][2].item<double>(), 3e-3 / std::sqrt(9e-6 + 1e-6), 1e-12);
}

TEST(Norm, HalfWidthInputsUseFloatStatisticsAndComeBackInTheirType) {
  const at::Tensor x = at::full({1, 4}, 300.0, at::kHalf);  // 300^2 is beyond fp16
  EXPECT_EQ(l2_normalize(x).scalar_type(), at::kHalf);
  EXPECT_NEAR(l2_normalize(x)[0][0].item<double>(), 0.5, 1e-3);
}

TEST(TruncatedNormal, HasTheAskedDeviationAndBounds) {
  at::manual_seed(6);
  const at::Tensor x = at::empty({100000});
  truncated_normal_(x, 1.0);
  EXPECT_LE(x.abs().max().item<double>(), 2.0);
  EXPECT_NEAR(x.std().item<double>(), 0.8796, 0.01);  // of a normal cut at two deviations
  truncated_normal_(x, 0.02);
  EXPECT_NEAR(x.std().item<double>(), 0.02, 2e-4);
}

TEST(DropPath, KeepsTheMeanDropsWholeSamplesAndDoesNothingInEvaluation) {
  at::manual_seed(7);
  const at::Tensor share = draw_share(20000, 0.3, true, {});
  EXPECT_NEAR(share.mean().item<double>(), 1.0, 0.02);
  EXPECT_NEAR((share == 0).to(at::kDouble).mean().item<double>(), 0.3, 0.02);
  EXPECT_NEAR(share.max().item<double>(), 1.0 / 0.7, 1e-6);
  EXPECT_FALSE(draw_share(20000, 0.3, false, {}).defined());
  EXPECT_FALSE(draw_share(20000, 0.0, true, {}).defined());
}

TEST(TokenStream, AddsTheBranchTimesItsShareBeforeItNormalises) {
  at::manual_seed(8);
  for (const char* kind : {"rms", "layer"}) {
    Norm norm(kind, 6, 1e-5);
    const at::Tensor x = at::randn({2, 3, 6}), branch = at::randn({2, 3, 6});
    const at::Tensor share = at::tensor({0.0F, 2.0F});
    TokenStream stream{x, branch, share};
    const at::Tensor y = norm->take(stream), sum = x + branch * share.view({2, 1, 1});
    EXPECT_TRUE(at::allclose(stream.sum, sum));
    EXPECT_TRUE(at::allclose(y, norm(sum)));
    EXPECT_FALSE(stream.branch.defined());
    EXPECT_TRUE(at::equal(norm->take(stream), y));  // nothing is added twice
  }
}

TEST(PatchEmbed, IsTheConvolutionOfItsWeights) {
  at::manual_seed(9);
  for (const int64_t p : {2, 7}) {
    PatchEmbed embed(3, 10, p);
    const at::Tensor images = at::randn({2, 3, 14, 28});
    const at::Tensor want =
        at::conv2d(images, embed->proj->weight, embed->proj->bias, p).flatten(2).transpose(1, 2);
    EXPECT_TRUE(at::allclose(embed(images), want, 1e-5, 1e-6)) << "patches of " << p;
  }
}

}  // namespace
}  // namespace comba::vision
