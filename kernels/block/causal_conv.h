// A short causal convolution of each channel over time, with what follows it, as one operator:
//
//   u_t = bias + sum_j weight[:, j] x_{t - (taps - 1) + j}       zero before the first token
//   y_t = u_t, or u_t sigmoid(u_t) with `silu`
//
// With `reverse` the sequence is read from its other end: token t sees t .. t + taps - 1. In fp32 (fp64 for fp64 inputs). All
// first-order gradients, deterministic; the backward pass keeps the inputs and computes u again. The kernels are for fp32,
// bf16 and fp16 rows that are a multiple of 8 bytes, and 4 taps at most; other inputs take LibTorch's operators.
#pragma once

#include <ATen/core/Tensor.h>

namespace comba::kernels {

struct CausalConvOptions {
  bool silu = false, reverse = false;
};

// x: [B, T, C], the last stride 1; weight: [C, taps]; bias: [C] or undefined, both of any floating dtype -> like x. Throws
// c10::Error naming the argument, expected and found.
at::Tensor causal_conv(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {},
                       const CausalConvOptions& options = {});

}  // namespace comba::kernels
