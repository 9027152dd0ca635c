#include "vision/nn/linear.h"

#include "kernels/block/column_sums.h"
#include "kernels/block/wide_product.h"
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
    return {context->needs_input_grad(0) ? at::mm(grad, saved[1]).view_as(saved[0]) : Variable(),
            kernels::wide_product(grad.t(), rows).to(dtype),
            biased ? kernels::column_sums(grad).to(dtype) : Variable()};
  }
};

}  // namespace

torch::Tensor linear_with_bias(const torch::Tensor& x, const torch::Tensor& weight,
                               const torch::Tensor& bias) {
  const torch::Tensor rows = x.to(product_dtype(x));
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  return LinearFunction::apply(rows, weight, bias.defined() ? std::optional(bias) : std::nullopt);
}

torch::Tensor linear_with_bias(const torch::nn::Linear& linear, const torch::Tensor& x) {
  return linear_with_bias(x, linear->weight, linear->bias);
}

}  // namespace comba::vision
