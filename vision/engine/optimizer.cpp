#include "vision/engine/optimizer.h"

#include "kernels/optimizer/adamw.h"
#include "vision/base/error.h"

#include <array>
#include <string_view>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

namespace comba::vision {
namespace {

constexpr double kNormEps = 1e-6;  // keeps the clip factor finite for a zero gradient

std::string_view last_component(std::string_view name) {
  const size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? name : name.substr(dot + 1);
}

}  // namespace

OptimizerOptions optimizer_options(const TrainOptions& train) {
  return {.rule = update_rule_of(train.optimizer),
          .update = {train.beta1, train.beta2, train.eps, train.momentum},
          .weight_decay = train.weight_decay,
          .clip_grad = train.clip_grad,
          .decay_all = train.decay == "all",
          .lr_scale = {}};
}

bool takes_weight_decay(const std::string& name, const at::Tensor& parameter) {
  static constexpr std::array<std::string_view, 8> kExempt = {
      "pos_embed", "cls_token", "A_log", "A_b_log", "dt_bias", "D", "decay", "bias"};
  std::string_view leaf = last_component(name);
  if (leaf.ends_with("_b")) {
    leaf.remove_suffix(2);  // the second direction
  }
  for (const std::string_view exempt : kExempt) {
    if (leaf == exempt) {
      return false;
    }
  }
  return parameter.dim() > 1;
}

Optimizer::Optimizer(const torch::nn::Module& model, const OptimizerOptions& options)
    : options_(options) {
  for (const auto& item : model.named_parameters()) {
    if (!item.value().requires_grad()) {
      continue;
    }
    const at::Tensor parameter = item.value();
    const bool has_square = options.rule != UpdateRule::sgd;
    slots_.push_back({item.key(), parameter, at::zeros_like(parameter.detach()),
                      has_square ? at::zeros_like(parameter.detach()) : at::Tensor(),
                      options.decay_all || takes_weight_decay(item.key(), parameter),
                      options.lr_scale ? options.lr_scale(item.key()) : 1.0});
    groups_.emplace(slots_.back().decay, slots_.back().lr_scale);
  }
  COMBA_CHECK(!slots_.empty(), "creating the optimizer: the model has no trainable parameters");
  const at::TensorOptions scalar =
      at::TensorOptions().dtype(at::kFloat).device(slots_[0].parameter.device());
  lr_ = at::zeros({}, scalar);
  steps_ = at::zeros({}, scalar);
  skipped_ = at::zeros({}, scalar);
  norm_ = at::zeros({}, scalar);
}

void Optimizer::zero_grad() {
  for (Slot& slot : slots_) {
    slot.parameter.mutable_grad().reset();
  }
}

void Optimizer::set_lr(double lr) {
  const at::NoGradGuard no_grad;
  lr_.fill_(lr);
}

void Optimizer::step() {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const Slot& slot : slots_) {
    if (slot.parameter.grad().defined()) {
      gradients.push_back(slot.parameter.grad());
    }
  }
  COMBA_CHECK(!gradients.empty(),
              "optimizer step: no parameter has a gradient; call backward() first");
  norm_.copy_(kernels::total_norm(gradients));
  at::Tensor factor;
  if (options_.clip_grad > 0) {
    factor = norm_.add(kNormEps).reciprocal().mul(options_.clip_grad).clamp_max(1.0);
  }
  const at::Tensor skip = norm_.isfinite().logical_not().to(at::kFloat);
  steps_.add_(1.0).sub_(skip);
  skipped_.add_(skip);
  for (const auto& [decay, lr_scale] : groups_) {
    update(skip, factor, decay, lr_scale);
  }
  zero_grad();
}

void Optimizer::update(const at::Tensor& skip, const at::Tensor& factor, bool decay,
                       double lr_scale) {
  UpdateGroup group;
  for (const Slot& slot : slots_) {
    if (slot.decay == decay && slot.lr_scale == lr_scale && slot.parameter.grad().defined()) {
      group.parameters.push_back(slot.parameter);
      group.gradients.push_back(slot.parameter.grad());
      group.means.push_back(slot.mean);
      if (slot.square.defined()) {
        group.squares.push_back(slot.square);
      }
    }
  }
  if (group.parameters.empty()) {
    return;
  }
  const UpdateStep step{.lr = lr_scale == 1.0 ? lr_ : lr_ * lr_scale,
                        .steps = steps_,
                        .skip = skip,
                        .factor = factor,
                        .weight_decay = decay ? options_.weight_decay : 0.0};
  update_parameters(options_.rule, group, step, options_.update);
}

double Optimizer::skipped() const { return skipped_.item<double>(); }

double Optimizer::gradient_norm() const { return norm_.item<double>(); }

NamedTensors Optimizer::state() const {
  NamedTensors state;
  for (const Slot& slot : slots_) {
    const bool has_square = slot.square.defined();
    state.emplace_back((has_square ? "exp_avg." : "momentum.") + slot.name, slot.mean);
    if (has_square) {
      state.emplace_back("exp_avg_sq." + slot.name, slot.square);
    }
  }
  state.emplace_back("steps", steps_);
  state.emplace_back("skipped", skipped_);
  return state;
}

void Optimizer::load_state(const std::map<std::string, at::Tensor>& state) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, target] : this->state()) {
    const auto found = state.find(name);
    COMBA_CHECK(found != state.end(), "restoring the optimizer: tensor {} is missing", name);
    COMBA_CHECK(found->second.sizes() == target.sizes(),
                "restoring the optimizer: tensor {} has {} elements, expected {} (another model?)",
                name, found->second.numel(), target.numel());
    at::Tensor(target).copy_(found->second);
  }
}

}  // namespace comba::vision
