// Linear layers as one product with its bias, whose backward pass rounds nothing: the gradients of half-width products come
// in the parameters' fp32.
#pragma once

#include <torch/nn/modules/linear.h>

namespace comba::vision {

// As linear(x), whose own forward pass adds the bias in a pass after the product, in autocast's dtype where it is on.
torch::Tensor linear_with_bias(const torch::nn::Linear& linear, const torch::Tensor& x);
// bias: [out] or undefined
torch::Tensor linear_with_bias(const torch::Tensor& x, const torch::Tensor& weight,
                               const torch::Tensor& bias);

}  // namespace comba::vision
