// A block's MLP as one operator whose backward pass keeps nothing but the operator's inputs:
//
//   y = GELU(x W1^T + b1) W2^T + b2        GELU exact (erf)
//
// In x's dtype with sums in fp32 (fp64 for fp64 inputs); weights and biases may be wider, and their gradients come in their
// own dtype, not rounded on the way. Half-width tokens of 192 channels go through one kernel each way on sm_90, which keeps
// the hidden units to itself and so makes them a second time for the gradients; elsewhere LibTorch's operators are used, for
// which keeping the hidden units is faster than this operator. First-order gradients of every tensor, deterministic.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace comba::kernels {

struct MlpInputs {
  at::Tensor x;        // [..., d]
  at::Tensor weight1;  // [f, d]
  at::Tensor bias1;    // [f] or undefined
  at::Tensor weight2;  // [o, f]
  at::Tensor bias2;    // [o] or undefined
};

// [..., o] like x. Throws c10::Error naming the argument, expected and found.
at::Tensor mlp(const MlpInputs& inputs);

// Whether tokens like x [..., d], were they of `dtype`, and `hidden` units take the kernels made for it.
bool mlp_is_one_kernel(const at::Tensor& x, at::ScalarType dtype, int64_t hidden);

}  // namespace comba::kernels
