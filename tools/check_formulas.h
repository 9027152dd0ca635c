// What the operators of kernels/ compute, written down plainly in LibTorch's own operators: what `comba check` compares every
// device with, in fp64 and with autograd's gradients. Slow on purpose; of the recurrence, a token at a time.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::tools::formulas {

// kernels/scan.h. q, k, v: [B, T, H, D], gates [B, T, H], d: [H] -> [B, T, H, D]
struct Scan {
  at::Tensor q, k, v, log_alpha, beta, c, d;
  double scale = 1;
  bool decayed_feedback = false, reverse = false;
};
at::Tensor scan(const Scan& x);

// The mean of both directions; gates [2, B, T, H], d [2, H] or [H].
at::Tensor bidirectional_scan(const Scan& x);

// kernels/mixer.h: qkv [B, T, 3, H, D], taps [2, 3, H, D, n], gates [2, B, T, H], d [2, H], gate [B, T, H, D], norm_weight [D]
struct Mixer {
  at::Tensor qkv, taps, log_alpha, beta, c, d, gate, norm_weight;
  double scale = 1, norm_eps = 1e-6;
};
at::Tensor mixer(const Mixer& x);

// kernels/gates.h: log_alpha, beta, c [R, B, T, H] of raw [B, T, 2, R, H]
std::vector<at::Tensor> gates(const at::Tensor& raw, const at::Tensor& A_log,
                              const at::Tensor& dt_bias, const at::Tensor& decay);

// kernels/block/add_norm.h: sum and y; RMS norm without a bias.
std::vector<at::Tensor> add_norm(const at::Tensor& x, const at::Tensor& branch,
                                 const at::Tensor& weight, const at::Tensor& bias, double eps);

// kernels/block/: mlp.h, bias_gelu.h, causal_conv.h (with its silu, forward), patch_rows.h
at::Tensor mlp(const at::Tensor& x, const at::Tensor& weight1, const at::Tensor& bias1,
               const at::Tensor& weight2, const at::Tensor& bias2);
at::Tensor bias_gelu(const at::Tensor& x, const at::Tensor& bias);
at::Tensor causal_conv(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);
at::Tensor patch_rows(const at::Tensor& images, int64_t patch);

// kernels/selective_scan/selective_scan.h: u, delta, z [B, T, C], A [C, N], B, C [B, T, N], D, delta_bias [C] -> [B, T, C]
struct SelectiveScan {
  at::Tensor u, delta, A, B, C, D, z, delta_bias;
};
at::Tensor selective_scan(const SelectiveScan& x);

}  // namespace comba::tools::formulas
