#include "vision/nn/projections.h"

#include "kernels/block/join_columns.h"
#include "kernels/block/wide_product.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
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

// Rows of half-width numbers should be whole vectors of 16 bytes: products of others take twice the time.
int64_t multiple(const at::Tensor& x) { return is_half(x) && x.is_cuda() ? 8 : 1; }

// [rows, n] with zero columns behind.
at::Tensor padded(const at::Tensor& x) {
  const int64_t whole = multiple(x), missing = (whole - x.size(1) % whole) % whole;
  return missing > 0 ? at::constant_pad_nd(x, {0, missing}) : x;
}

struct Project : torch::autograd::Function<Project> {
  static variable_list forward(AutogradContext* context, const Variable& x, const Variable& rows,
                               const std::optional<Variable>& gate, const Variable& raw) {
    const at::Tensor tokens = x.flatten(0, -2);
    const auto factor = [&](const Variable& weight) {  // [d, n]
      return weight.defined() ? weight.to(x.scalar_type()).t() : weight;
    };
    const auto shaped = [&](const at::Tensor& y) { return y.unflatten(0, {-1, x.size(1)}); };
    const at::Tensor a = factor(rows), b = factor(gate.value_or(at::Tensor())), c = factor(raw);
    context->save_for_backward({tokens, a, c, b});
    context->set_materialize_grads(false);
    context->saved_data["weights"] = static_cast<int64_t>(rows.scalar_type());
    const at::Tensor wide = kernels::wide_product(tokens, padded(c)).narrow(1, 0, raw.size(0));
    variable_list out = {shaped(at::mm(tokens, a)), shaped(wide)};
    if (b.defined()) {
      out.push_back(shaped(at::mm(tokens, b)));
    }
    return out;
  }

  // The gradients of gate and raw, a few columns each, go through their products together.
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const variable_list saved = context->get_saved_variables();
    const auto dtype = static_cast<at::ScalarType>(context->saved_data["weights"].toInt());
    const at::Tensor& tokens = saved[0];
    const auto columns = [&](const at::Tensor& grad) {
      return grad.flatten(0, -2).to(tokens.scalar_type());
    };
    // Outputs are rows, raw, gate; inputs the tokens, then rows, gate, raw.
    const auto has = [&](size_t i) { return i < gradients.size() && gradients[i].defined(); };
    variable_list out(4);
    at::Tensor grad_tokens;
    if (has(0)) {
      const at::Tensor grad = columns(gradients[0]);
      grad_tokens = at::mm(grad, saved[1].t());
      out[1] = kernels::wide_product(grad.t(), tokens).to(dtype);
    }
    if (has(1) || has(2)) {
      std::vector<size_t> few;  // gate's columns, then raw's
      variable_list factors;
      for (const size_t i : {2, 1}) {
        if (has(i)) {
          few.push_back(i);
          factors.push_back(saved[i + 1]);
        }
      }
      const at::Tensor grad =
          few.size() == 1 ? padded(columns(gradients[few[0]]))
                          : kernels::join_columns(columns(gradients[2]),
                                                  gradients[1].flatten(0, -2), multiple(tokens));
      const at::Tensor factor = padded(at::cat(factors, 1)).t();
      grad_tokens = grad_tokens.defined() ? grad_tokens.addmm_(grad, factor) : at::mm(grad, factor);
      const at::Tensor by_weight = kernels::wide_product(grad.t(), tokens).to(dtype);
      int64_t first = 0;
      for (const size_t i : few) {
        out[4 - i] = by_weight.narrow(0, first, saved[i + 1].size(1)).clone();
        first += saved[i + 1].size(1);
      }
    }
    if (grad_tokens.defined()) {
      const at::Tensor& like = gradients[has(0) ? 0 : has(1) ? 1 : 2];
      out[0] = grad_tokens.view({like.size(0), like.size(1), -1});
    }
    return out;
  }
};

}  // namespace

Projected project(const torch::Tensor& x, const torch::Tensor& rows, const torch::Tensor& gate,
                  const torch::Tensor& raw) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const variable_list out =
      Project::apply(x, rows, gate.defined() ? std::optional(gate) : std::nullopt, raw);
  return {out[0], gate.defined() ? out[2] : at::Tensor(), out[1]};
}

}  // namespace comba::vision
