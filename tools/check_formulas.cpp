#include "tools/check_formulas.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/erf.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/log1p.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

namespace comba::tools::formulas {
namespace {

at::Tensor logistic(const at::Tensor& x) { return 1 / (1 + (-x).exp()); }

at::Tensor exact_gelu(const at::Tensor& u) { return 0.5 * u * (1 + at::erf(u / std::sqrt(2.0))); }

Scan direction_of(const Scan& both, int64_t r) {
  Scan one = both;
  one.log_alpha = both.log_alpha[r];
  one.beta = both.beta[r];
  one.c = both.c[r];
  one.d = both.d.dim() == 2 ? both.d[r] : both.d;
  one.reverse = r == 1;
  return one;
}

// [B, T, H, D]: taps [H, D, n] over the n tokens that end with the own one, in the direction's order.
at::Tensor convolved(const at::Tensor& x, const at::Tensor& taps, bool reverse) {
  const int64_t n = taps.size(-1), length = x.size(1);
  const at::Tensor padded = at::constant_pad_nd(
      x, reverse ? at::IntArrayRef{0, 0, 0, 0, 0, n - 1} : at::IntArrayRef{0, 0, 0, 0, n - 1, 0});
  at::Tensor sum = at::zeros_like(x);
  for (int64_t j = 0; j < n; ++j) {
    sum = sum + padded.narrow(1, reverse ? n - 1 - j : j, length) * taps.select(-1, j);
  }
  return sum;
}

}  // namespace

at::Tensor scan(const Scan& x) {
  const int64_t length = x.q.size(1);
  at::Tensor state = at::zeros({x.q.size(0), x.q.size(2), x.q.size(3), x.v.size(3)}, x.q.options());
  const at::Tensor query = x.scale * (x.q - x.d.unsqueeze(-1) * x.k);
  std::vector<at::Tensor> rows(static_cast<size_t>(length));
  for (int64_t step = 0; step < length; ++step) {
    const int64_t t = x.reverse ? length - 1 - step : step;
    const auto gate = [&](const at::Tensor& g) { return g.select(1, t).unsqueeze(-1); };
    const at::Tensor key = x.k.select(1, t).unsqueeze(-1), alpha = gate(x.log_alpha).exp();
    const at::Tensor known = (state * key).sum(-2);
    const at::Tensor feedback = x.decayed_feedback ? gate(x.c) * alpha : gate(x.c);
    const at::Tensor update = gate(x.beta) * x.v.select(1, t) - feedback * known;
    state = alpha.unsqueeze(-1) * state + key * update.unsqueeze(-2);
    rows[static_cast<size_t>(t)] = (state * query.select(1, t).unsqueeze(-1)).sum(-2);
  }
  return at::stack(rows, 1);
}

at::Tensor bidirectional_scan(const Scan& x) {
  return 0.5 * (scan(direction_of(x, 0)) + scan(direction_of(x, 1)));
}

at::Tensor mixer(const Mixer& x) {
  at::Tensor o;
  for (int64_t r = 0; r < 2; ++r) {
    std::vector<at::Tensor> parts;  // q, k, v
    for (int64_t i = 0; i < 3; ++i) {
      const at::Tensor u = convolved(x.qkv.select(2, i), x.taps[r][i], r == 1);
      const at::Tensor silu = u * logistic(u);
      parts.push_back(i == 2 ? silu : silu / (silu.pow(2).sum(-1, true) + 1e-6).sqrt());
    }
    const at::Tensor one = scan({.q = parts[0],
                                 .k = parts[1],
                                 .v = parts[2],
                                 .log_alpha = x.log_alpha[r],
                                 .beta = x.beta[r],
                                 .c = x.c[r],
                                 .d = x.d[r],
                                 .scale = x.scale,
                                 .reverse = r == 1});
    o = o.defined() ? o + 0.5 * one : 0.5 * one;
  }
  return o / (o.pow(2).mean(-1, true) + x.norm_eps).sqrt() * x.norm_weight * logistic(x.gate);
}

at::Tensor selective_scan(const SelectiveScan& x) {
  const at::Tensor step = at::log1p(at::exp(x.delta + x.delta_bias));
  at::Tensor state = at::zeros({x.u.size(0), x.u.size(2), x.A.size(1)}, x.u.options());
  std::vector<at::Tensor> rows;
  for (int64_t t = 0; t < x.u.size(1); ++t) {
    const auto channels = [t](const at::Tensor& y) { return y.select(1, t).unsqueeze(-1); };
    const auto states = [t](const at::Tensor& y) { return y.select(1, t).unsqueeze(1); };
    state = (channels(step) * x.A).exp() * state + channels(step * x.u) * states(x.B);
    rows.push_back((state * states(x.C)).sum(-1));
  }
  return (at::stack(rows, 1) + x.D * x.u) * x.z * logistic(x.z);
}

std::vector<at::Tensor> gates(const at::Tensor& raw, const at::Tensor& A_log,
                              const at::Tensor& dt_bias, const at::Tensor& decay) {
  const auto per_head = [](const at::Tensor& x) { return x.unsqueeze(1).unsqueeze(1); };
  const at::Tensor parts = raw.permute({2, 3, 0, 1, 4});  // [2, R, B, T, H]
  const at::Tensor log_alpha =
      -per_head(A_log).exp() * at::log1p(at::exp(parts[0] + per_head(dt_bias)));
  const at::Tensor beta = logistic(parts[1]);
  return {log_alpha, beta, beta * logistic(per_head(decay))};
}

std::vector<at::Tensor> add_norm(const at::Tensor& x, const at::Tensor& branch,
                                 const at::Tensor& weight, const at::Tensor& bias, double eps) {
  const at::Tensor sum = x + branch;
  const at::Tensor centred = bias.defined() ? sum - sum.mean(-1, true) : sum;
  const at::Tensor y = centred / (centred.pow(2).mean(-1, true) + eps).sqrt() * weight;
  return {sum, bias.defined() ? y + bias : y};
}

at::Tensor mlp(const at::Tensor& x, const at::Tensor& weight1, const at::Tensor& bias1,
               const at::Tensor& weight2, const at::Tensor& bias2) {
  return exact_gelu(x.matmul(weight1.t()) + bias1).matmul(weight2.t()) + bias2;
}

at::Tensor bias_gelu(const at::Tensor& x, const at::Tensor& bias) { return exact_gelu(x + bias); }

at::Tensor causal_conv(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const int64_t taps = weight.size(1);
  const at::Tensor windows = at::constant_pad_nd(x, {0, 0, taps - 1, 0}).unfold(1, taps, 1);
  const at::Tensor u = (windows * weight).sum(-1) + bias;  // [B, T, C, taps] -> [B, T, C]
  return u * logistic(u);
}

at::Tensor patch_rows(const at::Tensor& images, int64_t patch) {
  return images.unfold(2, patch, patch)
      .unfold(3, patch, patch)  // [B, C, rows, columns, patch, patch]
      .permute({0, 2, 3, 1, 4, 5})
      .flatten(3)
      .flatten(1, 2);
}

}  // namespace comba::tools::formulas
