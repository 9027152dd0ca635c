#include "vision/nn/projections.h"

#include <array>

#include <ATen/autocast_mode.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/custom_function.h>

namespace comba::vision {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

bool is_half(const at::Tensor& x) {
  return x.scalar_type() == at::kHalf || x.scalar_type() == at::kBFloat16;
}

// a b in at least fp32: half-width factors on a GPU are multiplied as they are, and nothing is rounded afterwards.
at::Tensor wide_product(const at::Tensor& a, const at::Tensor& b) {
  if (!is_half(a)) {
    return at::mm(a, b);
  }
  return a.is_cuda() ? at::mm(a, b, at::kFloat) : at::mm(a.to(at::kFloat), b.to(at::kFloat));
}

struct Project : torch::autograd::Function<Project> {
  static variable_list forward(AutogradContext* context, const Variable& x, const Variable& rows,
                               const Variable& gate, const Variable& raw) {
    const at::Tensor tokens = x.flatten(0, -2);
    variable_list saved = {tokens}, out;
    for (const Variable& weight : {rows, gate, raw}) {
      saved.push_back(weight.defined() ? weight.to(x.scalar_type()) : weight);
      if (!weight.defined()) {
        out.emplace_back();
        continue;
      }
      const at::Tensor factor = saved.back().t();
      const bool wide = saved.size() == 4;
      const at::Tensor y = wide ? wide_product(tokens, factor) : at::mm(tokens, factor);
      out.push_back(y.view({x.size(0), x.size(1), -1}));
    }
    context->save_for_backward(saved);
    context->saved_data["wide"] = static_cast<int64_t>(rows.scalar_type());
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const variable_list saved = context->get_saved_variables();
    const auto wide = static_cast<at::ScalarType>(context->saved_data["wide"].toInt());
    const at::Tensor& tokens = saved[0];
    at::Tensor grad_tokens;
    at::IntArrayRef sizes;
    variable_list out(4);
    for (size_t i = 0; i < 3; ++i) {
      if (!gradients[i].defined() || !saved[i + 1].defined()) {
        continue;
      }
      sizes = gradients[i].sizes();
      const at::Tensor grad = gradients[i].flatten(0, -2).to(tokens.scalar_type());
      if (grad_tokens.defined()) {
        grad_tokens.addmm_(grad, saved[i + 1]);
      } else {
        grad_tokens = at::mm(grad, saved[i + 1]);
      }
      out[i + 1] = wide_product(grad.t(), tokens).to(wide);
    }
    if (grad_tokens.defined()) {
      out[0] = grad_tokens.view({sizes[0], sizes[1], -1});
    }
    return out;
  }
};

}  // namespace

Projected project(const torch::Tensor& x, const torch::Tensor& rows, const torch::Tensor& gate,
                  const torch::Tensor& raw) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const variable_list out = Project::apply(x, rows, gate, raw);
  return {out[0], out[1], out[2]};
}

}  // namespace comba::vision
