// The exact GELU of x + bias, as one operator whose backward pass sums up the bias's gradient on its way:
//
//   y = u Phi(u),  u = x + bias,  Phi the normal distribution function
//
// In fp32 (fp64 for fp64 inputs); half-width tensors take Phi to 1e-7 (Abramowitz and Stegun, Handbook of Mathematical
// Functions, 7.1.26). The kernels are for fp32, bf16 and fp16 rows that are a multiple of 16 bytes; other inputs take
// LibTorch's operators. First-order gradients of both tensors, deterministic.
#pragma once

#include <ATen/core/Tensor.h>

namespace comba::kernels {

// x: [..., f], bias: [f] or undefined -> like x. Throws c10::Error naming the argument, expected and found.
at::Tensor bias_gelu(const at::Tensor& x, const at::Tensor& bias);

}  // namespace comba::kernels
