#include "tools/scan_contenders.h"

#include "kernels/mixer.h"
#include "kernels/scan.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/exp2.h>
#include <ATen/ops/log1p.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

namespace comba::tools {
namespace {

using Tensors = std::vector<at::Tensor>;

std::vector<int64_t> rows_of(const ScanShape& s) { return {s.batch, s.length, s.heads, s.dim}; }
std::vector<int64_t> gates_of(const ScanShape& s) { return {2, s.batch, s.length, s.heads}; }

at::TensorOptions wide(const at::TensorOptions& options) { return options.dtype(at::kFloat); }
at::Tensor leaf(const at::Tensor& x) { return x.set_requires_grad(true); }

at::Tensor noise(const ScanShape& s, const at::TensorOptions& options) {
  return at::randn(rows_of(s), wide(options)).to(options.dtype());
}
at::Tensor unit_noise(const ScanShape& s, const at::TensorOptions& options) {
  const at::Tensor x = at::randn(rows_of(s), wide(options));
  return (x / x.square().sum(-1, true).sqrt()).to(options.dtype());
}

// q, k, v
Tensors make_rows(const ScanShape& s, const at::TensorOptions& options) {
  return {leaf(unit_noise(s, options)), leaf(unit_noise(s, options)), leaf(noise(s, options))};
}

at::Tensor learned_log_alpha(const ScanShape& s, const at::TensorOptions& options) {
  return leaf(at::rand(gates_of(s), wide(options)) * -0.2);
}
at::Tensor learned_gate(const ScanShape& s, const at::TensorOptions& options) {
  return leaf(at::rand(gates_of(s), wide(options)));
}
at::Tensor learned_correction(const ScanShape& s, const at::TensorOptions& options) {
  return leaf(at::rand({2, s.heads}, wide(options)) * 0.1);
}
at::Tensor fixed_gate(const ScanShape& s, const at::TensorOptions& options, double value) {
  return at::zeros(gates_of(s), wide(options)).fill_(value);
}

// q, k, v, log_alpha, beta, c (undefined: beta), d
Tensors comba_inputs(const ScanShape& s, const at::TensorOptions& options) {
  Tensors x = make_rows(s, options);
  x.insert(x.end(), {learned_log_alpha(s, options), learned_gate(s, options),
                     learned_gate(s, options), learned_correction(s, options)});
  return x;
}
Tensors gated_delta_inputs(const ScanShape& s, const at::TensorOptions& options) {
  Tensors x = make_rows(s, options);
  x.insert(x.end(), {learned_log_alpha(s, options), learned_gate(s, options), {}, {}});
  return x;
}
Tensors delta_inputs(const ScanShape& s, const at::TensorOptions& options) {
  Tensors x = make_rows(s, options);
  x.insert(x.end(), {fixed_gate(s, options, 0), learned_gate(s, options), {}, {}});
  return x;
}
Tensors gla_inputs(const ScanShape& s, const at::TensorOptions& options) {
  Tensors x = make_rows(s, options);
  x.insert(
      x.end(),
      {learned_log_alpha(s, options), fixed_gate(s, options, 1), fixed_gate(s, options, 0), {}});
  return x;
}
Tensors retention_inputs(const ScanShape& s, const at::TensorOptions& options) {
  Tensors x = make_rows(s, options);
  const at::Tensor decay = at::log1p(-at::exp2(-5.0 - at::arange(s.heads, wide(options))));
  x.insert(x.end(), {decay.expand(gates_of(s)).contiguous(),
                     fixed_gate(s, options, 1),
                     fixed_gate(s, options, 0),
                     {}});
  return x;
}

Tensors mixer_inputs(const ScanShape& s, const at::TensorOptions& options) {
  const at::Tensor qkv = at::randn({s.batch, s.length, 3, s.heads, s.dim}, wide(options));
  return {leaf(qkv.to(options.dtype())),
          leaf(at::randn({2, 3, s.heads, s.dim, 4}, wide(options)) * 0.5),
          learned_log_alpha(s, options),
          learned_gate(s, options),
          learned_gate(s, options),
          learned_correction(s, options),
          leaf(noise(s, options)),
          leaf(at::ones({s.dim}, wide(options)))};
}

Tensors attention_inputs(const ScanShape& s, const at::TensorOptions& options) {
  Tensors x;
  for (const at::Tensor& rows : make_rows(s, options)) {
    x.push_back(leaf(rows.detach().transpose(1, 2)));
  }
  return x;
}

double scale_of(const ScanShape& s) { return 1.0 / std::sqrt(static_cast<double>(s.dim)); }

const at::Tensor& feedback_of(const Tensors& x) { return x[5].defined() ? x[5] : x[4]; }

template <bool Decayed>
at::Tensor run_scan(const ScanShape& s, const Tensors& x) {
  return kernels::bidirectional_scan(x[0], x[1], x[2], x[3], x[4], feedback_of(x), x[6],
                                     scale_of(s), Decayed, "mean");
}

at::Tensor run_by_token(const ScanShape& s, const Tensors& x) {
  const auto direction = [&](int64_t r) {
    return std::get<0>(kernels::scan(x[0], x[1], x[2], x[3][r], x[4][r], x[5][r], x[6][r], {},
                                     {.scale = 0.5 * scale_of(s), .reverse = r == 1}));
  };
  return direction(0) + direction(1);
}

at::Tensor run_mixer(const ScanShape& s, const Tensors& x) {
  return kernels::mixer({x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]}, {.scale = scale_of(s)});
}

at::Tensor run_attention(const ScanShape&, const Tensors& x) {
  return at::scaled_dot_product_attention(x[0], x[1], x[2]).transpose(1, 2);
}

// C = 16 tokens a chunk: three products with the state, four with the chunk's triangles; both directions.
double scan_flops(const ScanShape& s) {
  const auto d = static_cast<double>(s.dim);
  return 2 * s.token_heads() * 2 * (3 * d * d + 4 * 16 * d);
}
double by_token_flops(const ScanShape& s) {
  const auto d = static_cast<double>(s.dim);
  return 2 * s.token_heads() * 2 * 3 * d * d;
}
double attention_flops(const ScanShape& s) {
  return s.token_heads() * 4 * static_cast<double>(s.length) * static_cast<double>(s.dim);
}

const ScanContender kAttention{"SDPA", &attention_inputs, &run_attention, &attention_flops};

ScanContender scan_as(const std::string& name, decltype(ScanContender::inputs) inputs,
                      decltype(ScanContender::run) run) {
  return {name, inputs, run, &scan_flops, 4, 3};
}

}  // namespace

std::string ScanShape::text() const {
  return fmt::format("B{} T{} H{} D{}", batch, length, heads, dim);
}

std::vector<ScanContender> scan_operators() {
  return {scan_as("comba scan", &comba_inputs, &run_scan<false>),
          {"comba mixer", &mixer_inputs, &run_mixer, &scan_flops, 5, 3},
          kAttention};
}

std::vector<ScanContender> scan_peers() {
  return {scan_as("comba", &comba_inputs, &run_scan<false>),
          scan_as("gated delta", &gated_delta_inputs, &run_scan<true>),
          scan_as("delta", &delta_inputs, &run_scan<true>),
          scan_as("gla", &gla_inputs, &run_scan<true>),
          scan_as("retention", &retention_inputs, &run_scan<true>),
          {"comba by token", &comba_inputs, &run_by_token, &by_token_flops, 11, 3},
          kAttention};
}

}  // namespace comba::tools
