// Two tensors side by side as one operand of a product.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace comba::kernels {

// first: [n, a], second: [n, b] of any floating dtypes -> [n, c] like `first`: first, second, and zeros up to the next
// multiple c of `multiple`. Without gradients.
at::Tensor join_columns(const at::Tensor& first, const at::Tensor& second, int64_t multiple);

}  // namespace comba::kernels
