// Linear layers as one product with its bias: the module's own forward pass adds a bias in a pass after it.
#pragma once

#include <ATen/ops/linear.h>
#include <torch/nn/modules/linear.h>

namespace comba::vision {

inline torch::Tensor linear_with_bias(const torch::nn::Linear& linear, const torch::Tensor& x) {
  return at::linear(x, linear->weight, linear->bias);
}

}  // namespace comba::vision
