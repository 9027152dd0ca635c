#include "vision/nn/prepared_comba.h"

#include "kernels/mixer.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>

namespace comba::vision {
namespace {

using GetParameter = at::Tensor (*)(const ScanDirection&);

// [R, H] fp32, or undefined.
at::Tensor stacked(const CombaMixer& mixer, GetParameter get) {
  const at::Tensor values = mixer.stacked(get);
  return values.defined() ? values.to(at::kFloat) : values;
}
at::Tensor rates(const CombaMixer& mixer) {
  return stacked(mixer, [](const ScanDirection& d) { return d.A_log; });
}
at::Tensor biases(const CombaMixer& mixer) {
  return stacked(mixer, [](const ScanDirection& d) { return d.dt_bias; });
}
at::Tensor decays(const CombaMixer& mixer) {
  return stacked(mixer, [](const ScanDirection& d) { return d.decay; });
}
at::Tensor corrections(const CombaMixer& mixer) {
  return stacked(mixer, [](const ScanDirection& d) { return d.D; });
}

at::Tensor qkv_weights(const CombaMixer& mixer) {
  return at::cat({mixer.q_proj->weight, mixer.k_proj->weight, mixer.v_proj->weight});
}

double scale_of(int64_t dim) { return 1.0 / std::sqrt(static_cast<double>(dim)); }

// Beside the product for q, k, v and output gate (whose two low-rank factors are multiplied out: a short product costs a
// launch) runs the one for the gates, in fp32.
class CudaComba : public PreparedMixer {
 public:
  CudaComba(const CombaMixer& mixer, const CombaScan& scan, const at::TensorOptions& options)
      : directions_(static_cast<int64_t>(mixer.directions.size())),
        heads_(mixer.directions[0].A_log.size(0)),
        dim_(mixer.o_norm->weight.size(0)),
        gated_(!mixer.g_proj.empty()),
        scan_(scan),
        out_(mixer.o_proj->weight, {}, options),
        raw_(mixer.gate_weights().to(options).contiguous().t()) {
    at::Tensor joined = qkv_weights(mixer);
    if (gated_) {
      at::Tensor gate = mixer.g_proj[0]->weight;
      for (size_t i = 1; i < mixer.g_proj.size(); ++i) {
        gate = at::mm(mixer.g_proj[i]->weight, gate);
      }
      joined = at::cat({joined, gate});
    }
    joined_ = PreparedLinear(joined, {}, options);
    const auto wide = options.dtype(at::kFloat);
    inputs_.taps = mixer.taps().to(wide).contiguous();
    inputs_.norm_weight = mixer.o_norm->weight.to(wide);
    const auto on_device = [&](const at::Tensor& x) { return x.defined() ? x.to(wide) : x; };
    inputs_.d = on_device(corrections(mixer));
    gates_ = {{},
              on_device(rates(mixer)),
              on_device(biases(mixer)),
              on_device(decays(mixer)),
              scan.feedback};
  }

  void add_to(at::Tensor& x, const at::Tensor& normalised, int64_t) const override {
    const int64_t batch = x.size(0), length = x.size(1), width = heads_ * dim_;
    at::Tensor joined, raw;
    kernels::GateInputs gates = gates_;
    kernels::ScanGates scan_gates;
    run_beside({[&] { joined = joined_(normalised); },
                [&] {
                  raw = at::mm(normalised.flatten(0, 1), raw_, at::kFloat);
                  gates.raw = raw.view({batch, length, 2, directions_, heads_});
                  scan_gates = kernels::gates(gates);
                }},
               x.device());
    kernels::MixerInputs inputs = inputs_;
    inputs.qkv = joined.narrow(2, 0, 3 * width).unflatten(2, {3, heads_, dim_});
    if (gated_) {
      inputs.gate = joined.narrow(2, 3 * width, width).unflatten(2, {heads_, dim_});
    }
    inputs.log_alpha = scan_gates.log_alpha;
    inputs.beta = scan_gates.beta;
    inputs.c = scan_gates.c;
    const at::Tensor y = kernels::mixer(inputs, {.scale = scale_of(dim_),
                                                 .decayed_feedback = scan_.decayed_feedback,
                                                 .normalize = scan_.normalize,
                                                 .merge = scan_.merge,
                                                 .norm_eps = scan_.norm_eps});
    out_.add_to(x, y.flatten(2));
  }

 private:
  int64_t directions_, heads_, dim_;
  bool gated_;
  CombaScan scan_;
  PreparedLinear joined_, out_;
  at::Tensor raw_;               // [d, 2 R H]
  kernels::GateInputs gates_;    // all but raw
  kernels::MixerInputs inputs_;  // what no frame changes
};

class CpuComba : public PreparedMixer {
 public:
  CpuComba(const CombaMixer& mixer, const CombaScan& scan, const at::TensorOptions& options)
      : heads_(mixer.directions[0].A_log.size(0)),
        dim_(mixer.o_norm->weight.size(0)),
        out_(mixer.o_proj->weight, {}, options) {
    std::vector<at::Tensor> joined = {qkv_weights(mixer), mixer.gate_weights()};
    if (!mixer.g_proj.empty()) {
      joined.push_back(mixer.g_proj[0]->weight);
      rank_ = mixer.g_proj[0]->weight.size(0);
    }
    joined_ = PreparedLinear(at::cat(joined), {}, options);
    if (mixer.g_proj.size() > 1) {
      gate_up_ = PreparedLinear(mixer.g_proj[1]->weight, {}, options);
      low_rank_ = true;
    }
    weights_.taps = mixer.taps().to(at::kFloat).transpose(3, 4).contiguous();
    weights_.rate = rates(mixer).exp();
    weights_.bias = biases(mixer).contiguous();
    const at::Tensor decay = decays(mixer), d = corrections(mixer);
    weights_.feedback =
        (decay.defined() ? decay.sigmoid() : at::ones_like(weights_.rate)) * scan.feedback;
    weights_.d = d.defined() ? d : at::zeros_like(weights_.rate);
    weights_.norm_weight = mixer.o_norm->weight.to(at::kFloat).contiguous();
    weights_.scale = static_cast<float>(scale_of(dim_));
    weights_.factor = scan.merge == "mean" ? 0.5F : 1.F;
    weights_.norm_eps = static_cast<float>(scan.norm_eps);
    weights_.decayed_feedback = scan.decayed_feedback;
    weights_.normalize = scan.normalize;
  }

  void add_to(at::Tensor& x, const at::Tensor& normalised, int64_t prefix) const override {
    if (prefix == 0) {
      out_.add_to(x, mixed(normalised, nullptr, nullptr));
      return;
    }
    kernels::MixerMemory memory;
    const at::Tensor first = mixed(normalised.narrow(1, 0, prefix), nullptr, &memory);
    const at::Tensor rest =
        mixed(normalised.narrow(1, prefix, x.size(1) - prefix), &memory, nullptr);
    out_.add_to(x, at::cat({first, rest}, 1));
  }

  bool takes_parts() const override { return true; }
  void add_part_to(at::Tensor& x, const at::Tensor& normalised, const MixerMemory* before,
                   MixerMemory* after) const override {
    kernels::MixerMemory earlier, later;
    if (before != nullptr) {
      earlier = {before->at(0), before->at(1)};
    }
    out_.add_to(x, mixed(normalised, before != nullptr ? &earlier : nullptr,
                         after != nullptr ? &later : nullptr));
    if (after != nullptr) {
      *after = {later.states, later.rows};
    }
  }

 private:
  // [B, T, d] before the output projection
  at::Tensor mixed(const at::Tensor& normalised, const kernels::MixerMemory* before,
                   kernels::MixerMemory* after) const {
    const at::Tensor joined = joined_(normalised);
    const int64_t width = heads_ * dim_;
    kernels::MixerProjections x;
    x.qkv = joined.narrow(2, 0, 3 * width).unflatten(2, {3, heads_, dim_});
    x.raw = joined.narrow(2, 3 * width, 4 * heads_).unflatten(2, {2, 2, heads_});
    if (rank_ > 0) {
      const at::Tensor gate = joined.narrow(2, 3 * width + 4 * heads_, rank_);
      x.gate = (low_rank_ ? gate_up_(gate) : gate).unflatten(2, {heads_, dim_});
    }
    return kernels::mixer_inference(x, weights_, before, after).flatten(2);
  }

  int64_t heads_, dim_, rank_ = 0;
  bool low_rank_ = false;
  PreparedLinear joined_, gate_up_, out_;
  kernels::PreparedMixerWeights weights_;
};

}  // namespace

std::unique_ptr<PreparedMixer> prepare_comba(const CombaMixer& mixer, const CombaScan& scan,
                                             const at::TensorOptions& options) {
  if (options.device().is_cuda()) {
    return std::make_unique<CudaComba>(mixer, scan, options);
  }
  return std::make_unique<CpuComba>(mixer, scan, options);
}

}  // namespace comba::vision
