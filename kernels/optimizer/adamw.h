// The optimizer's step over all of a model's tensors: the norm of the gradients, and AdamW (Loshchilov and Hutter, arXiv
// 1711.05101), each in one launch however many tensors there are.
//
// The kernels are for contiguous fp32 tensors on CUDA; others take LibTorch's operators. Deterministic; nothing waits for the
// device. Without gradients of their own.
#pragma once

#include <ATen/core/Tensor.h>

namespace comba::kernels {

// sqrt(sum of all squares): 0-d fp32. At least one tensor.
at::Tensor total_norm(at::TensorList tensors);

struct AdamwOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
};
// 0-d fp32 tensors on the parameters' device.
struct AdamwStep {
  at::Tensor lr;
  at::Tensor steps;   // done, this one counted
  at::Tensor skip;    // 1: nothing changes; gradients may then be anything
  at::Tensor factor;  // what gradients are multiplied by; may be undefined. They may be changed.
};

// Tensors of one shape each.
void adamw_(at::TensorList parameters, at::TensorList gradients, at::TensorList means,
            at::TensorList squares, const AdamwStep& step, const AdamwOptions& options);

}  // namespace comba::kernels
