// The joint products of a Comba mixer's input against single ones under autograd.
#include "vision/nn/projections.h"

#include "vision/nn/linear.h"

#include <vector>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace comba::vision {
namespace {

// rms(x - want) / rms(want)
double relative_error(const at::Tensor& x, const at::Tensor& want) {
  const at::Tensor difference = x.detach().cpu().to(at::kDouble) - want.detach();
  return (difference.norm() / want.detach().norm()).item<double>();
}

struct Case {
  at::ScalarType x, weights;
  bool gated;
  at::Device device;
  double bound;
};

void expect_single_products(const Case& c) {
  at::manual_seed(11);
  const auto leaf = [&](at::IntArrayRef sizes, at::ScalarType dtype) {
    return at::randn(sizes, at::kDouble).to(c.device, dtype).set_requires_grad(true);
  };
  const at::Tensor x = leaf({3, 5, 16}, c.x);
  std::vector<at::Tensor> weights = {leaf({24, 16}, c.weights), leaf({8, 16}, c.weights),
                                     leaf({4, 16}, c.weights)};
  if (!c.gated) {
    weights[1] = at::Tensor();
  }
  const Projected y = project(x, weights[0], weights[1], weights[2]);
  EXPECT_EQ(y.gate.defined(), c.gated);
  EXPECT_EQ(y.raw.scalar_type(), c.x == at::kDouble ? at::kDouble : at::kFloat);
  std::vector<at::Tensor> got, want, grads,
      inputs = {x}, wide = {x.detach().cpu().to(at::kDouble).set_requires_grad(true)};
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i].defined()) {
      const at::Tensor w =
          weights[i].detach().to(c.x).cpu().to(at::kDouble).set_requires_grad(true);
      inputs.push_back(weights[i]);
      wide.push_back(w);
      want.push_back(at::linear(wide[0], w));
      got.push_back(i == 0 ? y.rows : i == 1 ? y.gate : y.raw);
      grads.push_back(at::randn(want.back().sizes(), at::kDouble).to(c.x));
    }
  }
  std::vector<at::Tensor> given, given_wide;
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_LE(relative_error(got[i], want[i]), c.bound) << "product " << i;
    given.push_back(grads[i].to(got[i].options()));
    given_wide.push_back(grads[i].to(at::kDouble));
  }
  const auto gradients = torch::autograd::grad(got, inputs, given);
  const auto wanted = torch::autograd::grad(want, wide, given_wide);
  for (size_t i = 0; i < gradients.size(); ++i) {
    EXPECT_EQ(gradients[i].scalar_type(), inputs[i].scalar_type());
    EXPECT_LE(relative_error(gradients[i], wanted[i]), c.bound) << "gradient " << i;
  }
}

TEST(Projections, AreTheSingleProductsAndTheirGradients) {
  expect_single_products({at::kDouble, at::kDouble, true, at::kCPU, 1e-14});
  expect_single_products({at::kDouble, at::kDouble, false, at::kCPU, 1e-14});
  expect_single_products({at::kFloat, at::kFloat, true, at::kCPU, 1e-6});
}

TEST(Projections, OfHalfWidthRowsHaveWideGates) {
  expect_single_products({at::kBFloat16, at::kFloat, true, at::kCPU, 8e-3});
}

TEST(Projections, OnCudaAreTheSameProducts) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  const at::Device gpu(at::kCUDA, 0);
  expect_single_products({at::kFloat, at::kFloat, true, gpu, 1e-6});
  expect_single_products({at::kBFloat16, at::kFloat, true, gpu, 8e-3});
  expect_single_products({at::kBFloat16, at::kFloat, false, gpu, 8e-3});
}

void expect_linear(bool biased, at::Device device, at::ScalarType dtype, double bound) {
  at::manual_seed(12);
  torch::nn::Linear layer(torch::nn::LinearOptions(16, 24).bias(biased));
  layer->to(device);
  const at::Tensor x = at::randn({3, 5, 16}).to(device, dtype).set_requires_grad(true);
  const at::Tensor grad = at::randn({3, 5, 24}).to(device, dtype);
  std::vector<at::Tensor> inputs = {x}, wide;
  for (const at::Tensor& parameter : layer->parameters()) {
    inputs.push_back(parameter);
  }
  if (dtype != at::kFloat) {
    layer->to(dtype);  // so that both multiply the same numbers
  }
  for (const at::Tensor& input : inputs) {
    wide.push_back(input.detach().cpu().to(at::kDouble).set_requires_grad(true));
  }
  const at::Tensor y = linear_with_bias(layer, x);
  const at::Tensor want = at::linear(wide[0], wide[1], biased ? wide[2] : at::Tensor());
  EXPECT_LE(relative_error(y, want), bound);
  const auto got = torch::autograd::grad({y}, inputs, {grad});
  const auto wanted = torch::autograd::grad({want}, wide, {grad.cpu().to(at::kDouble)});
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].sizes(), inputs[i].sizes());
    EXPECT_LE(relative_error(got[i], wanted[i]), bound) << "gradient " << i;
  }
}

TEST(LinearWithBias, IsTheProductAndItsGradients) {
  for (const bool biased : {true, false}) {
    expect_linear(biased, at::kCPU, at::kFloat, 1e-6);
    expect_linear(biased, at::kCPU, at::kDouble, 1e-13);
  }
}

TEST(LinearWithBias, OnCudaIsTheProductAndItsGradients) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  for (const bool biased : {true, false}) {
    expect_linear(biased, at::Device(at::kCUDA, 0), at::kFloat, 1e-6);
    expect_linear(biased, at::Device(at::kCUDA, 0), at::kBFloat16, 8e-3);
  }
}

TEST(Projections, WithoutOneOfTheGradientsLeaveItOut) {
  const at::Tensor x = at::randn({1, 2, 4}).set_requires_grad(true);
  const at::Tensor a = at::randn({3, 4}).set_requires_grad(true),
                   c = at::randn({2, 4}).set_requires_grad(true);
  const auto gradients =
      torch::autograd::grad({project(x, a, {}, c).raw.sum()}, {x, c}, {}, {}, false, true);
  EXPECT_TRUE(at::allclose(gradients[0], c.sum(0).expand({1, 2, 4})));
}

}  // namespace
}  // namespace comba::vision
