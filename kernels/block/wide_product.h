// Products of half-width factors that are not rounded: gradients of weights, sums over all tokens.
#pragma once

#include <ATen/core/Tensor.h>

namespace comba::kernels {

// a b in at least fp32: half-width factors on a GPU are multiplied as they are, and the product is not rounded.
at::Tensor wide_product(const at::Tensor& a, const at::Tensor& b);

}  // namespace comba::kernels
