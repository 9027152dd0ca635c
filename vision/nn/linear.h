// Linear layers as one product with its bias, whose backward pass rounds nothing: the gradients of half-width products come
// in the parameters' fp32.
#pragma once

#include <torch/nn/modules/linear.h>

namespace comba::vision {

// As linear(x), whose own forward pass adds the bias in a pass after the product, in autocast's dtype where it is on.
torch::Tensor linear_with_bias(const torch::nn::Linear& linear, const torch::Tensor& x);

// a b in at least fp32: half-width factors on a GPU are multiplied as they are, and the product is not rounded.
at::Tensor wide_product(const at::Tensor& a, const at::Tensor& b);

}  // namespace comba::vision
