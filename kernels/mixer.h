// What surrounds the scan in a vision mixer, as one operator: with x the raw projections and R directions r, both or the
// forward one alone,
//
//   u_r = silu(causal_conv(x, taps_r))           in the direction's order; for q, k and v; without taps u_r = x
//   q_r, k_r = u_r / sqrt(|u_r|^2 + 1e-6)        per head
//   o = merge of scan(q_r, k_r, v_r, log_alpha_r, beta_r, c_r, d_r) over the directions (kernels/scan.h)
//   y = o / sqrt(mean(o^2) + norm_eps) * norm_weight * sigmoid(gate)      per head
//
// Merged by "concat" every direction has its own o and y, side by side, behind the same gate.
// Sums and everything between loads and stores are fp32 (fp64 for fp64 inputs). All first-order gradients exist and are
// deterministic. The backward pass keeps the inputs and o; q_r, k_r and v_r are computed again.
#pragma once

#include <string_view>

#include <ATen/core/Tensor.h>

namespace comba::kernels {

struct MixerOptions {
  double scale = 1.0;               // of q - d k
  bool decayed_feedback = false;    // see kernels/scan.h
  bool normalize = true;            // q and k
  std::string_view merge = "mean";  // "sum" or, of both directions, "concat"
  double norm_eps = 1e-6;
};

struct MixerInputs {
  at::Tensor qkv;  // [B, T, 3, H, D]      bf16, fp16, fp32 (fp64 on CPU), last stride 1
  at::Tensor
      taps;  // [R, 3, H, D, taps]   the last tap meets the token itself; 4 at most on CUDA, 0: no convolution
  at::Tensor log_alpha, beta, c;  // [R, B, T, H]         gates, as for the scan
  at::Tensor d;                   // [R, H] or undefined (0)
  at::Tensor gate;         // [B, T, H, D] before its sigmoid, dtype of qkv; undefined: no gate
  at::Tensor norm_weight;  // [D]
};

// y [B, T, H, D], by "concat" [B, T, 2, H, D], in the dtype of qkv.
at::Tensor mixer(const MixerInputs& inputs, const MixerOptions& options);

}  // namespace comba::kernels
