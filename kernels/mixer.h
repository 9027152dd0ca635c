// What surrounds the scan in a vision mixer, as one operator: with x the raw projections and two directions r,
//
//   u_r = silu(causal_conv(x, taps_r))           4 taps at most, in the direction's order; for q, k and v
//   q_r, k_r = u_r / sqrt(|u_r|^2 + 1e-6)        per head
//   o = merge of scan(q_r, k_r, v_r, log_alpha_r, beta_r, c_r, d_r) over both directions (kernels/scan.h)
//   y = o / sqrt(mean(o^2) + norm_eps) * norm_weight * sigmoid(gate)      per head
//
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
  std::string_view merge = "mean";  // or "sum"
  double norm_eps = 1e-6;
};

struct MixerInputs {
  at::Tensor qkv;   // [B, T, 3, H, D]      bf16, fp16, fp32 (fp64 on CPU), last stride 1
  at::Tensor taps;  // [2, 3, H, D, taps]   the last tap meets the token itself
  at::Tensor log_alpha, beta, c;  // [2, B, T, H]         gates, as for the scan
  at::Tensor d;                   // [2, H] or undefined (0)
  at::Tensor gate;         // [B, T, H, D] before its sigmoid, dtype of qkv; undefined: no gate
  at::Tensor norm_weight;  // [D]
};

// y [B, T, H, D] in the dtype of qkv.
at::Tensor mixer(const MixerInputs& inputs, const MixerOptions& options);

}  // namespace comba::kernels
