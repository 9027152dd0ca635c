// Gradients from values alone.
#pragma once

#include <functional>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/module.h>

namespace comba::vision {

using Scalar = std::function<at::Tensor(const std::vector<at::Tensor>&)>;

// Compares the gradients of `f` (fp64 inputs, one value out) with central differences at up to `probes` spread
// elements of each input.
inline void expect_gradients(const Scalar& f, const std::vector<at::Tensor>& values,
                             int64_t probes = 12) {
  std::vector<at::Tensor> inputs;
  for (const at::Tensor& value : values) {
    inputs.push_back(value.detach().clone().to(at::kDouble).requires_grad_());
  }
  const auto gradients = torch::autograd::grad({f(inputs)}, inputs);
  constexpr double kStep = 1e-6;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const int64_t count = inputs[i].numel(), stride = std::max<int64_t>(1, count / probes);
    for (int64_t at = 0; at < count; at += stride) {
      const auto value_at = [&](double change) {
        std::vector<at::Tensor> moved;
        for (const at::Tensor& input : inputs) {
          moved.push_back(input.detach().clone());
        }
        moved[i].view(-1)[at] += change;
        return f(moved).item<double>();
      };
      const double expected = (value_at(kStep) - value_at(-kStep)) / (2 * kStep);
      EXPECT_NEAR(gradients[i].reshape(-1)[at].item<double>(), expected,
                  1e-6 * (1 + std::abs(expected)))
          << "input " << i << ", element " << at;
    }
  }
}

// The gradient of one element of every parameter of an fp64 module, by finite differences of `loss`.
inline void expect_parameter_gradients(torch::nn::Module& module,
                                       const std::function<at::Tensor()>& loss) {
  constexpr double kStep = 1e-6;
  loss().backward();
  for (const auto& item : module.named_parameters()) {
    at::Tensor parameter = item.value();
    ASSERT_TRUE(parameter.grad().defined()) << item.key();
    const at::NoGradGuard no_grad;
    const int64_t place = parameter.numel() / 2;
    const at::Tensor probe = parameter.view(-1)[place];
    probe.add_(kStep);
    const double above = loss().item<double>();
    probe.sub_(2 * kStep);
    const double below = loss().item<double>(), expected = (above - below) / (2 * kStep);
    probe.add_(kStep);
    EXPECT_NEAR(parameter.grad().view(-1)[place].item<double>(), expected,
                1e-6 * (1 + std::abs(expected)))
        << item.key();
  }
}

}  // namespace comba::vision
