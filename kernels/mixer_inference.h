// A vision mixer's own work at inference on the CPU, from projections to what the output projection takes, in fp32 and two
// passes: as kernels/gates.h and kernels/mixer.h with parameters prepared once and no gradients. A sequence may come in
// parts, the later ones after what is remembered of the earlier: in each direction's order the earlier part is read first, so
// that the reverse direction reads it from its end and then the later part from its end.
#pragma once

#include <ATen/core/Tensor.h>

namespace comba::kernels {

// fp32 on the CPU, all contiguous. H heads of D channels; index 0 of [2, ..] is the forward direction.
struct PreparedMixerWeights {
  at::Tensor taps;         // [2, 3, H, taps, D] of q, k, v; the last tap meets the token itself
  at::Tensor rate;         // [2, H] exp(A_log)
  at::Tensor bias;         // [2, H] dt_bias
  at::Tensor feedback;     // [2, H] c / beta
  at::Tensor d;            // [2, H]
  at::Tensor norm_weight;  // [D]
  float scale = 1, factor = 0.5F, norm_eps = 1e-6F;  // factor: of the sum of both directions
  bool decayed_feedback = false, normalize = true;
};

// Views with last stride 1 and any other.
struct MixerProjections {
  at::Tensor qkv;   // [B, T, 3, H, D]
  at::Tensor raw;   // [B, T, 2, 2, H] of both directions: a, then b
  at::Tensor gate;  // [B, T, H, D] before its sigmoid, or undefined
};

// What later tokens need of earlier ones.
struct MixerMemory {
  at::Tensor states;  // [2, B, H, D, D]
  at::Tensor rows;    // [2, B, taps - 1, 3, H, D] of qkv, the last read in each direction's order
};

// y [B, T, H, D]. `before`: of the tokens before these, or null; `after`: filled unless null.
at::Tensor mixer_inference(const MixerProjections& x, const PreparedMixerWeights& weights,
                           const MixerMemory* before, MixerMemory* after);

// rows [.., D] contiguous fp32: x / sqrt(mean(x^2) + eps) * weight.
at::Tensor rms_norm_inference(const at::Tensor& rows, const at::Tensor& weight, double eps);
// Exact (erf) GELU in place, to 2e-7 of |x|.
void gelu_inference_(at::Tensor& x);

}  // namespace comba::kernels
