// The patches of images as rows, which a product with the embedding's weights takes.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace comba::kernels {

// images: [B, C, H, W], sides multiples of `patch` -> [B, (H / patch) (W / patch), C patch patch] of `dtype`, channels before
// rows before columns. Differentiable. The kernel reads dense fp32 images without gradients and writes half-width rows;
// others take LibTorch's operators.
at::Tensor patch_rows(const at::Tensor& images, int64_t patch, at::ScalarType dtype);

}  // namespace comba::kernels
