#include "kernels/composed/composed_operators.h"

#include "kernels/composed/chunked_selective_scan.h"

#include <ATen/TensorOperators.h>
#include <ATen/TracerMode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/stack.h>

namespace comba::kernels {
namespace {

using Optional = std::optional<at::Tensor>;

at::Tensor widened(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
}

// [R, B, T, H] of raw [B, T, 2, R, H]
std::tuple<at::Tensor, at::Tensor, at::Tensor> gates(const at::Tensor& raw, const at::Tensor& A_log,
                                                     const at::Tensor& dt_bias,
                                                     const Optional& decay, double feedback) {
  const at::Tensor terms = widened(raw).permute({2, 3, 0, 1, 4});
  const auto per_head = [](const at::Tensor& x) { return widened(x).unsqueeze(1).unsqueeze(1); };
  const at::Tensor a = terms.select(0, 0) + per_head(dt_bias);
  const at::Tensor beta = at::sigmoid(terms.select(0, 1));
  const at::Tensor log_alpha = at::softplus(a, 1, 40) * (at::exp(per_head(A_log)) * -1.0);
  const bool scaled = decay && decay->defined();
  const at::Tensor c = scaled            ? beta * (at::sigmoid(per_head(*decay)) * feedback)
                       : feedback == 1.0 ? beta * 1.0
                                         : beta * feedback;
  return {log_alpha, beta, c};
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return x * at::rsqrt((x * x).mean(-1, true) + eps) * widened(weight);
}

struct MixerCall {
  at::Tensor qkv, taps, log_alpha, beta, c;
  Optional d, gate;
  at::Tensor norm_weight;
  double scale;
  bool decayed_feedback, normalize;
  std::string_view merge;
  double norm_eps;
};

// Both directions joined from the convolutions on, so that everything is done once.
std::tuple<at::Tensor, at::Tensor> mixer(ChunkedScan& scan, const MixerCall& call) {
  const at::Tensor x = widened(call.qkv);
  const int64_t heads = call.qkv.size(3), dim = call.qkv.size(4);
  const bool both = call.taps.size(0) == 2, convolves = call.taps.size(4) > 0;
  const auto convolved = [&](int64_t r) {
    const at::Tensor taps = widened(call.taps.select(0, r)).flatten(0, 2).t();
    return composed_causal_conv(x.flatten(2), taps, r == 1).unflatten(2, {3, heads, dim});
  };
  at::Tensor rows = convolves ? convolved(0) : x;
  if (both) {
    rows = join_directions(rows, convolves ? convolved(1) : x, 3);
  }
  if (convolves) {
    rows = at::silu(rows);
  }
  at::Tensor qk = rows.narrow(2, 0, 2);
  if (call.normalize) {
    qk = qk * at::rsqrt((qk * qk).sum(-1, true) + 1e-6);
  }
  const auto gate = [&](const at::Tensor& each) {
    return both ? join_directions(each.select(0, 0), each.select(0, 1), 2) : each.select(0, 0);
  };
  ScanInputs inputs;
  inputs.q = qk.select(2, 0);
  inputs.k = qk.select(2, 1);
  inputs.v = rows.select(2, 2);
  inputs.log_alpha = gate(call.log_alpha);
  inputs.beta = gate(call.beta);
  inputs.c = gate(call.c);
  inputs.d = call.d && call.d->defined() ? call.d->flatten() : at::Tensor();
  inputs.scale = call.scale;
  inputs.decayed_feedback = call.decayed_feedback;
  const bool apart = call.merge == "concat";
  at::Tensor o = both ? scan.joined(inputs, apart ? "none" : call.merge)
                      : std::get<0>(scan.scan(inputs, /*reverse=*/false));
  o = apart ? o.permute({1, 2, 0, 3, 4}) : o;
  at::Tensor y = rms_norm(o, call.norm_weight, call.norm_eps);
  if (call.gate && call.gate->defined()) {
    const at::Tensor gates = at::sigmoid(widened(*call.gate));
    y = y * (apart ? gates.unsqueeze(2) : gates);
  }
  return {y.to(call.qkv.scalar_type()), o.to(call.qkv.scalar_type())};
}

at::Tensor composed_selective_scan(const at::Tensor& u, const at::Tensor& delta,
                                   const at::Tensor& A, const at::Tensor& B, const at::Tensor& C,
                                   const Optional& D, const Optional& z, const Optional& delta_bias,
                                   bool reverse) {
  const auto or_none = [](const Optional& x) { return x.value_or(at::Tensor()); };
  return chunked_selective_scan({u, delta, A, B, C, or_none(D), or_none(z), or_none(delta_bias)},
                                reverse);
}

}  // namespace

at::Tensor composed_causal_conv(const at::Tensor& x, const at::Tensor& rows, bool reverse) {
  const int64_t last = rows.size(0) - 1, length = x.size(1);
  const at::Tensor padded =
      last == 0 ? x : at::constant_pad_nd(x, {0, 0, reverse ? 0 : last, reverse ? last : 0});
  at::Tensor y = x * rows.select(0, last);
  for (int64_t shift = 1; shift <= last; ++shift) {
    y = y + padded.narrow(1, reverse ? shift : last - shift, length) * rows.select(0, last - shift);
  }
  return y;
}

ComposedOperators::ComposedOperators()
    : library_(torch::Library::IMPL, "comba", c10::DispatchKey::Tracer, __FILE__, __LINE__) {
  library_.impl("gates", &gates);
  library_.impl("scan",
                [this](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                       const at::Tensor& log_alpha, const at::Tensor& beta, const at::Tensor& c,
                       const Optional& d, const Optional& initial_state, double scale,
                       bool decayed_feedback, bool reverse) {
                  return scan_.scan({q, k, v, log_alpha, beta, c, d.value_or(at::Tensor()),
                                     initial_state.value_or(at::Tensor()), scale, decayed_feedback},
                                    reverse);
                });
  library_.impl(
      "bidirectional_scan",
      [this](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
             const at::Tensor& log_alpha, const at::Tensor& beta, const at::Tensor& c,
             const Optional& d, double scale, bool decayed_feedback, std::string_view merge) {
        return scan_.bidirectional(
            {q, k, v, log_alpha, beta, c, d.value_or(at::Tensor()), {}, scale, decayed_feedback},
            merge);
      });
  library_.impl("selective_scan", &composed_selective_scan);
  library_.impl("causal_conv", [](const at::Tensor& x, const at::Tensor& weight,
                                  const Optional& bias, bool silu, bool reverse) {
    const at::Tensor y = composed_causal_conv(widened(x), widened(weight).t(), reverse);
    const at::Tensor u = bias && bias->defined() ? y + widened(*bias) : y;
    return (silu ? at::silu(u) : u).to(x.scalar_type());
  });
  library_.impl("mixer", [this](const at::Tensor& qkv, const at::Tensor& taps,
                                const at::Tensor& log_alpha, const at::Tensor& beta,
                                const at::Tensor& c, const Optional& d, const Optional& gate,
                                const at::Tensor& norm_weight, double scale, bool decayed_feedback,
                                bool normalize, std::string_view merge, double norm_eps) {
    return mixer(scan_, {qkv, taps, log_alpha, beta, c, d, gate, norm_weight, scale,
                         decayed_feedback, normalize, merge, norm_eps});
  });
}

}  // namespace comba::kernels
