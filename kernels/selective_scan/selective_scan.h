// The selective scan of Mamba (arXiv 2312.00752) as one operator with what surrounds it. Per batch element and channel, with N
// states h and t running forward, or backward with `reverse`:
//
//   dt_t = softplus(delta_t + delta_bias)
//   h_t  = exp(dt_t A) h_{t-1} + dt_t u_t B_t                  elementwise over the states
//   y_t  = (C_t . h_t + D u_t) silu(z_t)                       without z: no factor; without D: 0
//
// States and all between loads and stores are fp32 (fp64 for fp64 inputs). All first-order gradients exist and are
// deterministic; differentiating twice throws. The backward pass keeps the inputs and computes the states again. On CUDA
// N = 16 is built.
#pragma once

#include <ATen/core/Tensor.h>

namespace comba::kernels {

struct SelectiveScanInputs {
  at::Tensor
      u;  // [B, T, C]    bf16, fp16, fp32 (fp64 on CPU); this dtype for all rows [B, T, ..], last stride 1
  at::Tensor delta;  // [B, T, C]    before its softplus
  at::Tensor
      A;  // [C, N]       negative, for states that decay; any float dtype, as D and delta_bias
  at::Tensor B, C;        // [B, T, N]
  at::Tensor D;           // [C] or undefined
  at::Tensor z;           // [B, T, C] or undefined
  at::Tensor delta_bias;  // [C] or undefined
};

// y [B, T, C] in u's dtype. Throws c10::Error naming the argument, what was expected and what was found.
at::Tensor selective_scan(const SelectiveScanInputs& inputs, bool reverse = false);

}  // namespace comba::kernels
