// A residual sum and the norm behind it, as one operator: what stands between two branches of a block.
//
//   sum = x + share branch             share: one factor a sample (stochastic depth); without it 1
//   y = sum / sqrt(mean(sum^2) + eps) weight                                      centred = false: RMS norm
//   y = (sum - mean(sum)) / sqrt(var(sum) + eps) weight + bias                    centred = true: layer norm
//
// Over the last dimension, in fp32 (fp64 for fp64 inputs); sum has x's dtype. First-order gradients of every tensor but
// share, deterministic. The kernels are for even widths up to 1,536 in fp32, bf16 and fp16; other inputs take
// LibTorch's operators.
#pragma once

#include <optional>

#include <ATen/core/Tensor.h>

namespace comba::kernels {

struct AddNormInputs {
  at::Tensor x;       // [B, ..., d]
  at::Tensor branch;  // like x, in any floating dtype; or undefined
  at::Tensor share;   // [B] or undefined; only with a branch
  at::Tensor weight;  // [d]
  at::Tensor bias;    // [d] or undefined; only if centred
};

struct AddNormOptions {
  double eps = 1e-6;
  bool centred = false;
  std::optional<at::ScalarType> dtype;  // of y; without it, x's
};

struct AddNormOutputs {
  at::Tensor sum, y;  // without a branch sum is x
};

// Throws c10::Error naming the argument, what was expected and what was found.
AddNormOutputs add_norm(const AddNormInputs& inputs, const AddNormOptions& options);

}  // namespace comba::kernels
