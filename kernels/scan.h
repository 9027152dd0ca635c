// The Comba recurrence as operators. Per (batch, head), with state S [Dk, Dv] in fp32 (fp64 for fp64 inputs):
//
//   u_t = beta_t v_t - c_t S_{t-1}^T k_t              undecayed feedback (Comba-splr, arXiv 2506.02475, eq. 5)
//   u_t = beta_t v_t - c_t alpha_t S_{t-1}^T k_t      decayed feedback   (iplr, Gated DeltaNet)
//   S_t = alpha_t S_{t-1} + k_t u_t^T                 alpha_t = exp(log_alpha_t)
//   o_t = scale * S_t^T (q_t - d k_t)
//
// c is the feedback strength: splr b*beta, iplr 2*b*beta, Gated DeltaNet beta, DeltaNet (log_alpha = 0) beta,
// RetNet-like 0. All first-order gradients exist and are deterministic; differentiating twice throws.
#pragma once

#include <string_view>
#include <tuple>

#include <ATen/core/Tensor.h>

namespace comba::kernels {

struct ScanOptions {
  double scale =
      1.0;  // multiplies q - d k; Dk^-0.5 is the usual choice, there is no default for it
  bool decayed_feedback = false;  // which of the two u_t above
  bool reverse = false;           // t runs from T-1 down to 0
};

// q, k: [B, T, H, Dk], v: [B, T, H, Dv]           bf16, fp16, fp32 (fp64 on CPU), one dtype, last stride 1
// log_alpha (<= 0), beta, c: [B, T, H]            any float dtype, computed in fp32
// d: [H] or undefined (0)                         output correction
// initial_state: [B, H, Dk, Dv] fp32 or undefined (0)
// returns o [B, T, H, Dv] in q's dtype and the final state [B, H, Dk, Dv] fp32.
std::tuple<at::Tensor, at::Tensor> scan(const at::Tensor& q, const at::Tensor& k,
                                        const at::Tensor& v, const at::Tensor& log_alpha,
                                        const at::Tensor& beta, const at::Tensor& c,
                                        const at::Tensor& d, const at::Tensor& initial_state,
                                        const ScanOptions& options);

// R = 2 directions over the same tokens; direction 0 runs forward, 1 backward over t. R = 1: the forward one by the same
// kernels, which keep no state and are several times as fast as those of scan().
// q, k, v: [B, T, H, D] shared by the directions, or [R, B, T, H, D] one each
// log_alpha, beta, c: [R, B, T, H];  d: [H] or [R, H] or undefined
// merge: "mean" or "sum" give o [B, T, H, Dv] of both directions; "none" gives [R, B, T, H, Dv].
at::Tensor bidirectional_scan(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const at::Tensor& log_alpha, const at::Tensor& beta,
                              const at::Tensor& c, const at::Tensor& d, double scale,
                              bool decayed_feedback, std::string_view merge);

}  // namespace comba::kernels
