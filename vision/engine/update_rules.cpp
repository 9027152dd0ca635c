#include "vision/engine/update_rules.h"

#include "kernels/optimizer/adamw.h"
#include "vision/base/error.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_div.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_foreach_sqrt.h>
#include <ATen/ops/_foreach_sub.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/nan_to_num.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>

namespace comba::vision {
namespace {

void update_adamw(const UpdateGroup& group, const UpdateStep& step, const UpdateOptions& options) {
  kernels::adamw_(group.parameters, group.gradients, group.means, group.squares,
                  {step.lr, step.steps, step.skip, step.factor},
                  {options.beta1, options.beta2, options.eps, step.weight_decay});
}

void update_sgd(const UpdateGroup& group, const UpdateStep& step, const UpdateOptions& options) {
  at::_fused_sgd_(group.parameters, group.gradients, group.means, step.weight_decay,
                  options.momentum, step.lr, /*dampening=*/0.0, /*nesterov=*/options.momentum > 0,
                  /*maximize=*/false, /*is_first_step=*/false, /*grad_scale=*/{},
                  /*found_inf=*/step.skip);
}

// moment = beta moment + (1 - beta) x, or as it was.
void follow(at::TensorList moments, at::TensorList x, double beta, const at::Tensor& keep) {
  const at::Tensor share = keep * (1.0 - beta);
  at::_foreach_mul_(moments, 1.0 - share);
  at::_foreach_add_(moments, at::_foreach_mul(x, share));
}

void update_lamb(const UpdateGroup& group, const UpdateStep& step, const UpdateOptions& options) {
  const at::Tensor keep = 1.0 - step.skip, steps = step.steps.clamp_min(1.0);
  for (at::Tensor gradient : group.gradients) {
    at::nan_to_num_(gradient, 0.0, 0.0, 0.0);  // 0 times it is 0 where the step is skipped
  }
  follow(group.means, group.gradients, options.beta1, keep);
  follow(group.squares, at::_foreach_mul(group.gradients, group.gradients), options.beta2, keep);
  const auto correction = [&](double beta) { return (1.0 - at::pow(beta, steps)).reciprocal(); };
  auto updates = at::_foreach_mul(group.means, correction(options.beta1));
  auto sizes = at::_foreach_mul(group.squares, correction(options.beta2));
  at::_foreach_sqrt_(sizes);
  at::_foreach_add_(sizes, options.eps);
  at::_foreach_div_(updates, sizes);
  at::Tensor rate = step.lr * keep;
  if (step.weight_decay == 0.0) {
    at::_foreach_mul_(updates, rate);
  } else {
    at::_foreach_add_(updates, group.parameters, step.weight_decay);
    const at::Tensor lengths = at::stack(at::_foreach_norm(group.parameters, 2));
    const at::Tensor update_lengths = at::stack(at::_foreach_norm(updates, 2));
    const at::Tensor trust = at::where((lengths > 0).logical_and(update_lengths > 0),
                                       lengths / update_lengths, at::ones_like(lengths));
    at::_foreach_mul_(updates, (trust * rate).unbind());
  }
  at::_foreach_sub_(group.parameters, updates);
}

}  // namespace

UpdateRule update_rule_of(const std::string& name) {
  if (name == "lamb") {
    return UpdateRule::lamb;
  }
  COMBA_CHECK(name == "adamw" || name == "sgd", "optimizer \"{}\": expected adamw, lamb or sgd",
              name);
  return name == "adamw" ? UpdateRule::adamw : UpdateRule::sgd;
}

void update_parameters(UpdateRule rule, const UpdateGroup& group, const UpdateStep& step,
                       const UpdateOptions& options) {
  if (rule != UpdateRule::adamw && step.factor.defined()) {
    at::_foreach_mul_(group.gradients, step.factor);
  }
  switch (rule) {
    case UpdateRule::adamw:
      return update_adamw(group, step, options);
    case UpdateRule::lamb:
      return update_lamb(group, step, options);
    case UpdateRule::sgd:
      return update_sgd(group, step, options);
  }
}

}  // namespace comba::vision
