// What is computed again is what was computed: values, gradients, and what they are checked against by differences.
#include "vision/nn/recompute.h"

#include "tests/vision/finite_differences.h"
#include "vision/backbone.h"

#include <map>

#include <ATen/Context.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

namespace comba::vision {
namespace {

TEST(Recompute, GradientsAgreeWithDifferencesAlsoWhereAnInputIsUndefinedOrUnused) {
  const at::Tensor weight = at::randn({4, 3}, at::kDouble);
  const auto f = [](const std::vector<at::Tensor>& x) {
    const auto out = recompute(
        [weight = x[1]](const std::vector<at::Tensor>& inputs) {
          EXPECT_FALSE(inputs[1].defined());
          return std::vector<at::Tensor>{inputs[0].matmul(weight).tanh(), inputs[0].sin()};
        },
        {x[0], {}, x[2]}, {x[1]});
    return out[0].square().sum() + (x[2] * x[2]).sum() + 0.5 * out[1].sum();
  };
  expect_gradients(f, {at::randn({5, 4}, at::kDouble), weight, at::randn({2}, at::kDouble)});
}

TEST(Recompute, RunsOnceForwardAndOnceMoreBackward) {
  int runs = 0;
  const at::Tensor x = at::randn({3}).requires_grad_();
  const auto out = recompute(
      [&](const std::vector<at::Tensor>& inputs) {
        ++runs;
        return std::vector<at::Tensor>{inputs[0].exp()};
      },
      {x}, {});
  EXPECT_EQ(runs, 1);
  out[0].sum().backward();
  EXPECT_EQ(runs, 2);
  EXPECT_TRUE(at::allclose(x.grad(), x.detach().exp()));
}

BackboneConfig small(const std::string& mixer) {
  return {.image_size = 32,
          .patch_size = 8,
          .width = 32,
          .depth = 3,
          .head_dim = 16,
          .drop_path = 0.4,
          .mixer = mixer};
}

struct Outcome {
  at::Tensor features;
  std::map<std::string, at::Tensor> gradients;
};

// The same weights, images and draws each time.
Outcome train_once(BackboneConfig config, bool again, const c10::Device& device) {
  config.recompute = again;
  at::manual_seed(3);
  Backbone backbone(config);
  backbone->to(device);
  const at::Tensor images = at::randn({6, 3, 32, 32}).to(device);
  at::manual_seed(4);
  Outcome outcome;
  outcome.features = backbone->forward(images);
  outcome.features.square().sum().backward();
  for (const auto& item : backbone->named_parameters()) {
    outcome.gradients[item.key()] = item.value().grad().cpu();
  }
  return outcome;
}

void expect_same(const BackboneConfig& config, const c10::Device& device) {
  const Outcome kept = train_once(config, false, device), again = train_once(config, true, device);
  EXPECT_TRUE(at::allclose(again.features, kept.features, 1e-5, 1e-6));
  for (const auto& [name, gradient] : kept.gradients) {
    EXPECT_TRUE(at::allclose(again.gradients.at(name), gradient, 1e-4, 1e-5)) << name;
  }
}

TEST(Recompute, ABackboneTrainsAsWithoutIt) {
  expect_same(small("comba"), at::kCPU);
  expect_same(small("softmax"), at::kCPU);
}

TEST(Recompute, ABackboneTrainsAsWithoutItOnCuda) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "needs a GPU";
  }
  expect_same(small("comba"), at::Device("cuda:0"));
  expect_same(small("softmax"), at::Device("cuda:0"));
}

}  // namespace
}  // namespace comba::vision
