// Sums over rows: the gradient of a bias. LibTorch's own reduction takes five times what reading the rows takes.
#pragma once

#include <ATen/core/Tensor.h>

namespace comba::kernels {

// x: [..., f] of any floating dtype -> [f] in fp32 (fp64 for fp64). Without gradients, deterministic. The kernel is for rows
// that are a multiple of 16 bytes; others take LibTorch's operator.
at::Tensor column_sums(const at::Tensor& x);

}  // namespace comba::kernels
