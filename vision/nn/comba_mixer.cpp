#include "vision/nn/comba_mixer.h"

#include "kernels/block/causal_conv.h"
#include "kernels/gates.h"
#include "kernels/mixer.h"
#include "kernels/scan.h"
#include "vision/nn/linear.h"
#include "vision/nn/prepared_comba.h"
#include "vision/nn/projections.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp2.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log1p.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/roll.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

namespace comba::vision {
namespace {

// alpha near 1: A ~ U(0, 16), dt log-uniform in (.001, .1), dt_bias its inverse softplus (fla's Comba layer).
torch::Tensor initial_a_log(int64_t heads, bool alpha_near_one) {
  return alpha_near_one ? at::empty({heads}).uniform_(0.0, 16.0).clamp_min_(1e-3).log_()
                        : at::zeros({heads});
}

torch::Tensor initial_dt_bias(int64_t heads, bool alpha_near_one) {
  if (!alpha_near_one) {
    return at::zeros({heads});
  }
  const torch::Tensor dt =
      at::empty({heads}).uniform_(std::log(0.001), std::log(0.1)).exp_().clamp_min_(1e-4);
  return dt + (-dt).expm1().neg().log();
}

// [3 d, 1, taps]
torch::Tensor taps_of(const ScanDirection& direction) {
  return at::cat({direction.q_conv->weight, direction.k_conv->weight, direction.v_conv->weight});
}

}  // namespace

Recurrence recurrence_of(const std::string& form, const BackboneConfig& config) {
  Recurrence r;
  if (form == "splr" || form == "iplr") {
    r.decayed_feedback = form == "iplr";
    r.feedback = config.feedback > 0 ? config.feedback : r.decayed_feedback ? 2.0 : 1.0;
    r.scaled_feedback = config.feedback_scale;
    r.corrects_output = config.output_correction;
  } else if (form == "delta") {
    r.learns_alpha = false;
  } else if (form == "retention" || form == "gla") {
    r.learns_alpha = form == "gla";
    r.retains = form == "retention";
    r.learns_beta = false;
    r.feedback = 0.0;
  }
  return r;
}

CombaMixer::CombaMixer(const BackboneConfig& config, const std::string& form)
    : heads_(config.scan_width() / config.head_dim),
      head_dim_(config.head_dim),
      recurrence_(recurrence_of(form, config)),
      merge_(config.merge),
      qk_norm_(config.qk_norm),
      fused_(config.fused_mixer),
      norm_eps_(config.norm_eps) {
  const int64_t d = config.width, inner = config.scan_width();
  q_proj = register_module("q_proj", make_linear(d, inner, false));
  k_proj = register_module("k_proj", make_linear(d, inner, false));
  v_proj = register_module("v_proj", make_linear(d, inner, false));
  o_proj = register_module("o_proj", make_linear(merge_ == "concat" ? 2 * inner : inner, d, false));
  const int64_t rank = config.gate_rank < 0 ? d / 8 : config.gate_rank;
  if (rank == d) {
    g_proj.push_back(register_module("g_proj", make_linear(d, inner, false)));
  } else if (rank > 0) {
    g_proj.push_back(register_module("g_proj_down", make_linear(d, rank, false)));
    g_proj.push_back(register_module("g_proj_up", make_linear(rank, inner, false)));
  }
  o_norm = register_module("o_norm", Norm("rms", head_dim_, config.norm_eps));
  directions.push_back(make_direction(config, ""));
  make_convs(directions[0], config, "");
  if (config.directions == "both") {
    directions.push_back(make_direction(config, "_b"));
    if (config.conv == "shared") {
      directions[1].q_conv = directions[0].q_conv;
      directions[1].k_conv = directions[0].k_conv;
      directions[1].v_conv = directions[0].v_conv;
    } else {
      make_convs(directions[1], config, "_b");
    }
  }
}

ScanDirection CombaMixer::make_direction(const BackboneConfig& config, const std::string& suffix) {
  ScanDirection direction;
  if (recurrence_.learns_alpha) {
    const bool near_one = config.alpha_near_one;
    direction.a_proj = register_module("a_proj" + suffix, make_linear(config.width, heads_, false));
    direction.A_log = register_parameter("A_log" + suffix, initial_a_log(heads_, near_one));
    direction.dt_bias = register_parameter("dt_bias" + suffix, initial_dt_bias(heads_, near_one));
  }
  if (recurrence_.learns_beta) {
    direction.b_proj = register_module("b_proj" + suffix, make_linear(config.width, heads_, false));
  }
  if (recurrence_.scaled_feedback) {
    direction.decay = register_parameter("decay" + suffix, at::ones({heads_}));
  }
  if (recurrence_.corrects_output) {
    direction.D = register_parameter(
        "D" + suffix, at::full({heads_}, config.output_correction_init, torch::kFloat));
  }
  return direction;
}

void CombaMixer::make_convs(ScanDirection& direction, const BackboneConfig& config,
                            const std::string& suffix) {
  if (config.conv == "none") {
    return;
  }
  const auto make = [&](const char* name) {
    return register_module(name + suffix, ShortConv(config.scan_width(), config.conv_size));
  };
  direction.q_conv = make("q_conv1d");
  direction.k_conv = make("k_conv1d");
  direction.v_conv = make("v_conv1d");
}

// Always in fp32 (fp64 for fp64 models), whatever autocast says.
CombaMixer::Gates CombaMixer::gates(const torch::Tensor& raw, const torch::Tensor& qkv) const {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const bool learned = recurrence_.learns_alpha && recurrence_.learns_beta;
  return {learned ? learned_gates(raw) : partly_fixed_gates(raw, qkv),
          stacked([](const ScanDirection& direction) { return direction.D; })};
}

torch::Tensor CombaMixer::stacked(torch::Tensor (*get)(const ScanDirection&)) const {
  std::vector<torch::Tensor> values;
  for (const ScanDirection& direction : directions) {
    values.push_back(get(direction));
  }
  return values[0].defined() ? at::stack(values) : torch::Tensor();
}

kernels::ScanGates CombaMixer::learned_gates(const torch::Tensor& raw) const {
  kernels::GateInputs inputs;
  inputs.raw = raw.unflatten(-1, {2, static_cast<int64_t>(directions.size()), heads_});
  inputs.A_log = stacked([](const ScanDirection& direction) { return direction.A_log; });
  inputs.dt_bias = stacked([](const ScanDirection& direction) { return direction.dt_bias; });
  inputs.decay = stacked([](const ScanDirection& direction) { return direction.decay; });
  inputs.feedback = recurrence_.feedback;
  return kernels::gates(inputs);
}

// What is not learned is the same everywhere, without a number of the batch's size in it.
kernels::ScanGates CombaMixer::partly_fixed_gates(const torch::Tensor& raw,
                                                  const torch::Tensor& qkv) const {
  const int64_t count = static_cast<int64_t>(directions.size());
  const auto learned = [&] {  // [R, B, T, H]
    return raw.unflatten(-1, {count, heads_}).permute({2, 0, 1, 3});
  };
  const auto fixed = [&](const torch::Tensor& values) {  // [H] or [1] -> [R, B, T, H]
    const torch::Tensor one = values.expand_as(qkv.select(2, 0).select(-1, 0));
    return at::stack(std::vector<torch::Tensor>(directions.size(), one));
  };
  const auto per_head = [&](const torch::Tensor& x) {
    return x.to(raw.scalar_type()).unsqueeze(1).unsqueeze(1);
  };
  kernels::ScanGates gates;
  if (recurrence_.learns_alpha) {
    const torch::Tensor rate = stacked([](const ScanDirection& d) { return d.A_log; }),
                        bias = stacked([](const ScanDirection& d) { return d.dt_bias; });
    gates.log_alpha = at::softplus(learned() + per_head(bias)) * -per_head(rate).exp();
  } else if (recurrence_.retains) {
    const torch::Tensor head = at::arange(heads_, raw.options());
    gates.log_alpha = fixed(at::log1p(-at::exp2(-5.0 - head)));
  } else {
    gates.log_alpha = fixed(at::zeros({1}, raw.options()));
  }
  gates.beta = recurrence_.learns_beta ? learned().sigmoid() : fixed(at::ones({1}, raw.options()));
  gates.c = gates.beta * recurrence_.feedback;
  return gates;
}

torch::Tensor CombaMixer::gate_weights() const {
  std::vector<torch::Tensor> weights;
  for (const ScanDirection& direction : directions) {
    if (recurrence_.learns_alpha) {
      weights.push_back(direction.a_proj->weight);
    }
  }
  for (const ScanDirection& direction : directions) {
    if (recurrence_.learns_beta) {
      weights.push_back(direction.b_proj->weight);
    }
  }
  return weights.empty() ? q_proj->weight.narrow(0, 0, 0) : at::cat(weights);
}

torch::Tensor CombaMixer::taps() const {
  const auto count = static_cast<int64_t>(directions.size());
  if (directions[0].q_conv.is_empty()) {
    return at::empty({count, 3, heads_, head_dim_, 0}, o_norm->weight.options());
  }
  std::vector<torch::Tensor> each;
  for (const ScanDirection& direction : directions) {
    each.push_back(taps_of(direction));
  }
  return at::stack(each).view({count, 3, heads_, head_dim_, -1});
}

// On the CPU its gradients are slower than those of the single operators, which autograd keeps more for.
bool CombaMixer::takes_fused(const torch::Tensor& x) const {
  return fused_ && (x.is_cuda() ? taps_fit_cuda() : !at::GradMode::is_enabled());
}

bool CombaMixer::taps_fit_cuda() const {
  return directions[0].q_conv.is_empty() || directions[0].q_conv->weight.size(-1) <= 4;
}

torch::Tensor CombaMixer::fused(const torch::Tensor& qkv, const Gates& g,
                                const torch::Tensor& gate) const {
  kernels::MixerInputs inputs;
  inputs.qkv = qkv;
  inputs.taps = taps();
  inputs.log_alpha = g.scan.log_alpha;
  inputs.beta = g.scan.beta;
  inputs.c = g.scan.c;
  inputs.d = g.d;
  inputs.gate = gate;
  inputs.norm_weight = o_norm->weight;
  return kernels::mixer(inputs, {.scale = 1.0 / std::sqrt(static_cast<double>(head_dim_)),
                                 .decayed_feedback = recurrence_.decayed_feedback,
                                 .normalize = qk_norm_,
                                 .merge = merge_,
                                 .norm_eps = norm_eps_});
}

// The second direction reads the prefix from its end, then the rest from its end: it is the reverse of the sequence whose
// prefix comes last.
torch::Tensor CombaMixer::composed(const torch::Tensor& qkv, const Gates& g,
                                   const torch::Tensor& gate, int64_t prefix) {
  const bool both = directions.size() == 2, apart = both && prefix > 0;
  const auto turned = [&](const torch::Tensor& x, int64_t by, int64_t dim) {
    return apart ? at::roll(x, by, dim) : x;
  };
  const torch::Tensor second = turned(qkv, -prefix, 1);
  std::vector<torch::Tensor> parts;  // of each direction, where they differ
  for (size_t r = 0; r < directions.size() && !directions[r].q_conv.is_empty(); ++r) {
    const torch::Tensor& x = r == 1 ? second : qkv;
    const torch::Tensor weight = taps_of(directions[r]).squeeze(1);
    parts.push_back(
        kernels::causal_conv(x.flatten(2), weight, {}, {.silu = true, .reverse = r == 1})
            .view_as(qkv));
  }
  if (parts.empty() && apart) {
    parts = {qkv, second};
  }
  const torch::Tensor rows = parts.empty() ? qkv : parts.size() == 1 ? parts[0] : at::stack(parts);
  const torch::Tensor qk = rows.narrow(-3, 0, 2), normalized = qk_norm_ ? l2_normalize(qk) : qk;
  const torch::Tensor q = normalized.select(-3, 0), k = normalized.select(-3, 1),
                      v = rows.select(-3, 2);
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim_));
  const bool decayed = recurrence_.decayed_feedback;
  const auto gates_of = [&](const torch::Tensor& x) {
    return apart ? at::stack({x[0], turned(x[1], -prefix, 1)}) : x;
  };
  const auto& [log_alpha, beta, c] = g.scan;
  torch::Tensor o;  // [B, T, H, head_dim]
  if (both) {
    const bool join = !apart && merge_ != "concat";
    o = kernels::bidirectional_scan(q, k, v, gates_of(log_alpha), gates_of(beta), gates_of(c), g.d,
                                    scale, decayed, join ? merge_ : "none");
    o = join ? o : merged(apart ? at::stack({o[0], turned(o[1], prefix, 1)}) : o);
  } else {
    const torch::Tensor d = g.d.defined() ? g.d[0] : torch::Tensor();
    o = std::get<0>(kernels::scan(q, k, v, log_alpha[0], beta[0], c[0], d, torch::Tensor(),
                                  {.scale = scale, .decayed_feedback = decayed}));
  }
  torch::Tensor y = o_norm(o);
  if (!gate.defined()) {
    return y;
  }
  return y * (merge_ == "concat" ? gate.unsqueeze(2) : gate).sigmoid();
}

torch::Tensor CombaMixer::merged(const torch::Tensor& o) const {
  if (merge_ == "concat") {
    return at::stack({o[0], o[1]}, 2);
  }
  const torch::Tensor sum = o[0] + o[1];
  return merge_ == "mean" ? 0.5 * sum : sum;
}

torch::Tensor CombaMixer::forward(const torch::Tensor& x, int64_t prefix) {
  const Projected projected =
      project(x.to(product_dtype(x)), at::cat({q_proj->weight, k_proj->weight, v_proj->weight}),
              g_proj.empty() ? torch::Tensor() : g_proj[0]->weight, gate_weights());
  const torch::Tensor qkv = projected.rows.unflatten(-1, {3, heads_, head_dim_});
  torch::Tensor gate = projected.gate;
  if (gate.defined()) {
    gate = g_proj.size() > 1 ? linear_with_bias(g_proj[1], gate) : gate;
    gate = gate.unflatten(-1, {heads_, head_dim_});
  }
  const Gates g = gates(projected.raw, qkv);
  const torch::Tensor y = (prefix == 0 || directions.size() == 1) && takes_fused(x)
                              ? fused(qkv, g, gate)
                              : composed(qkv, g, gate, prefix);
  return linear_with_bias(o_proj, y.flatten(2));
}

std::unique_ptr<PreparedMixer> CombaMixer::prepare(const at::TensorOptions& options,
                                                   bool prefixed) {
  const bool cuda = options.device().is_cuda();
  const bool usual =
      merge_ != "concat" && directions.size() == 2 && !directions[0].q_conv.is_empty();
  const bool takes = recurrence_.learns_alpha && recurrence_.learns_beta &&
                     (cuda ? !prefixed && taps_fit_cuda() : usual && head_dim_ % 16 == 0);
  if (!takes) {
    return Mixer::prepare(options, prefixed);
  }
  return prepare_comba(*this,
                       {.decayed_feedback = recurrence_.decayed_feedback,
                        .normalize = qk_norm_,
                        .feedback = recurrence_.feedback,
                        .norm_eps = norm_eps_,
                        .merge = merge_},
                       options);
}

}  // namespace comba::vision
