#include "vision/nn/linear.h"

#include "kernels/block/column_sums.h"
#include "vision/nn/layers.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/custom_function.h>

namespace comba::vision {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

struct LinearFunction : torch::autograd::Function<LinearFunction> {
  static Variable forward(AutogradContext* context, const Variable& x, const Variable& weight,
                          const std::optional<Variable>& bias) {
    const at::Tensor factor = weight.to(x.scalar_type());
    context->save_for_backward({x, factor});
    context->saved_data["dtype"] = static_cast<int64_t>(weight.scalar_type());
    context->saved_data["bias"] = bias.has_value();
    return at::linear(x, factor, bias ? bias->to(x.scalar_type()) : at::Tensor());
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const variable_list saved = context->get_saved_variables();
    const auto dtype = static_cast<at::ScalarType>(context->saved_data["dtype"].toInt());
    const at::Tensor rows = saved[0].flatten(0, -2), grad = gradients[0].flatten(0, -2);
    const bool biased = context->saved_data["bias"].toBool();
    return {at::mm(grad, saved[1]).view_as(saved[0]), wide_product(grad.t(), rows).to(dtype),
            biased ? kernels::column_sums(grad).to(dtype) : Variable()};
  }
};

}  // namespace

at::Tensor wide_product(const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() != at::kHalf && a.scalar_type() != at::kBFloat16) {
    return at::mm(a, b);
  }
  return a.is_cuda() ? at::mm(a, b, at::kFloat) : at::mm(a.to(at::kFloat), b.to(at::kFloat));
}

torch::Tensor linear_with_bias(const torch::nn::Linear& linear, const torch::Tensor& x) {
  const torch::Tensor rows = x.to(product_dtype(x));
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  return LinearFunction::apply(rows, linear->weight,
                               linear->bias.defined() ? std::optional(linear->bias) : std::nullopt);
}

}  // namespace comba::vision
