// The Comba mixer for vision (arXiv 2506.02475), scanned in one or both directions.
//
//   q, k, v = projections of x; per direction: causal conv + SiLU; L2 norm of q and k
//   beta = sigmoid(b_proj x);  log alpha = -exp(A_log) softplus(a_proj x + dt_bias)            fp32
//   feedback c: splr b beta (undecayed), iplr 2 b beta (decayed), gated_delta beta (decayed); b = sigmoid(decay)
//   o = scan(q, k, v, log alpha, beta, c, D), directions merged
//   y = o_proj( rms_norm_per_head(o) * sigmoid(g_proj x) ), with merge = "concat" of both directions' side by side
//
// Other recurrences of the family have fewer gates:
//   delta       alpha = 1, c = beta (DeltaNet, arXiv 2406.06484)
//   retention   alpha = 1 - 2^-(5 + h) for head h, beta = 1, c = 0: nothing about it is learned (RetNet, arXiv 2307.08621)
//   gla         alpha as above, beta = 1, c = 0: gated linear attention (arXiv 2312.06635) in its scalar form, with one decay a
//               head and token instead of one a channel, as Mamba-2's
//
// The layout is inferred from the paper's parameter and FLOP counts; its vision code is not public. Parameter
// names follow fla's Comba layer; those of the second direction end in _b as in Vision Mamba.
#pragma once

#include "kernels/gates.h"
#include "vision/nn/layers.h"
#include "vision/nn/mixer.h"
#include "vision/nn/short_conv.h"

#include <vector>

#include <torch/nn/modules/linear.h>

namespace comba::vision {

// What sets the recurrences of the family apart.
struct Recurrence {
  bool learns_alpha = true, learns_beta = true;
  bool retains = false;          // alpha is retention's where it is not learned; else 1
  bool decayed_feedback = true;  // see kernels/scan.h
  double feedback = 1.0;         // f in c = f b beta
  bool scaled_feedback = false;  // b is learned, else 1
  bool corrects_output = false;  // d is learned, else 0
};
// `form`: "splr", "iplr", "gated_delta", "delta", "retention" or "gla".
Recurrence recurrence_of(const std::string& form, const BackboneConfig& config);

// What one direction does not share with the other; what its recurrence does not learn is null or undefined.
struct ScanDirection {
  torch::nn::Linear a_proj{nullptr}, b_proj{nullptr};  // d -> H
  torch::Tensor A_log, dt_bias;                        // [H]
  torch::Tensor decay;                                 // [H], b = sigmoid(decay); undefined: b = 1
  torch::Tensor D;                                     // [H], output correction d; undefined: 0
  ShortConv q_conv{nullptr}, k_conv{nullptr}, v_conv{nullptr};  // null without convolution
};

class CombaMixer : public Mixer {
 public:
  // `form` as in recurrence_of().
  CombaMixer(const BackboneConfig& config, const std::string& form);
  torch::Tensor forward(const torch::Tensor& x, int64_t prefix = 0) override;
  std::unique_ptr<PreparedMixer> prepare(const at::TensorOptions& options, bool prefixed) override;

  // [R, 3, H, head_dim, taps], no taps without convolution
  torch::Tensor taps() const;
  // [n R H, d]: a of the directions, then b, as far as they are learned
  torch::Tensor gate_weights() const;
  // [R, H], or undefined
  torch::Tensor stacked(torch::Tensor (*get)(const ScanDirection&)) const;

  torch::nn::Linear q_proj{nullptr}, k_proj{nullptr}, v_proj{nullptr}, o_proj{nullptr};
  std::vector<torch::nn::Linear> g_proj;  // none, one [d, d], or two of low rank
  Norm o_norm{nullptr};                   // per head, weight [head_dim]
  std::vector<ScanDirection> directions;  // forward first

 private:
  struct Gates {
    kernels::ScanGates scan;
    torch::Tensor d;  // [R, H] or undefined
  };
  ScanDirection make_direction(const BackboneConfig& config, const std::string& suffix);
  void make_convs(ScanDirection& direction, const BackboneConfig& config,
                  const std::string& suffix);
  // raw: [B, T, n R H], n: how much is learned of alpha and beta; qkv: [B, T, 3, H, head_dim]
  Gates gates(const torch::Tensor& raw, const torch::Tensor& qkv) const;
  kernels::ScanGates learned_gates(const torch::Tensor& raw) const;
  kernels::ScanGates partly_fixed_gates(const torch::Tensor& raw, const torch::Tensor& qkv) const;
  bool taps_fit_cuda() const;
  bool takes_fused(const torch::Tensor& x) const;
  // From qkv [B, T, 3, H, head_dim], gates and the output gate before its sigmoid (or undefined) to
  // [B, T, H, head_dim] (concat: [B, T, 2, H, head_dim]), by one operator or by many.
  torch::Tensor fused(const torch::Tensor& qkv, const Gates& gates,
                      const torch::Tensor& gate) const;
  torch::Tensor composed(const torch::Tensor& qkv, const Gates& gates, const torch::Tensor& gate,
                         int64_t prefix);
  // [2, B, T, H, head_dim] -> [B, T, H, head_dim] (concat: [B, T, 2, H, head_dim])
  torch::Tensor merged(const torch::Tensor& o) const;

  int64_t heads_, head_dim_;
  Recurrence recurrence_;
  std::string merge_;
  bool qk_norm_, fused_;
  double norm_eps_;
};

}  // namespace comba::vision
