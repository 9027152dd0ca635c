// comba::causal_conv under autograd, and its shapes for tensors without data.
#include "kernels/block/causal_conv_operators.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>

namespace comba::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

at::Tensor call(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias,
                bool silu, bool reverse) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("comba::causal_conv", "")
                             .typed<at::Tensor(const at::Tensor&, const at::Tensor&,
                                               const OptionalTensor&, bool, bool)>();
  return op.call(x, weight, bias, silu, reverse);
}

struct CausalConvFunction : torch::autograd::Function<CausalConvFunction> {
  static Variable forward(AutogradContext* context, const Variable& x, const Variable& weight,
                          const OptionalTensor& bias, bool silu, bool reverse) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    context->save_for_backward({x, weight, bias.value_or(at::Tensor())});
    context->saved_data["silu"] = silu;
    context->saved_data["reverse"] = reverse;
    return call(x, weight, bias, silu, reverse);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list s = context->get_saved_variables();
    static const auto op =
        c10::Dispatcher::singleton()
            .findSchemaOrThrow("comba::causal_conv_backward", "")
            .typed<CausalConvGradientTuple(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                           const OptionalTensor&, bool, bool)>();
    const auto [x, weight, bias] =
        op.call(gradients[0], s[0], s[1], optional(s[2]), context->saved_data["silu"].toBool(),
                context->saved_data["reverse"].toBool());
    return {x, weight, s[2].defined() ? bias : Variable(), {}, {}};
  }
};

at::Tensor causal_conv_autograd(const at::Tensor& x, const at::Tensor& weight,
                                const OptionalTensor& bias, bool silu, bool reverse) {
  return CausalConvFunction::apply(x, weight, bias, silu, reverse);
}

at::Tensor causal_conv_meta(const at::Tensor& x, const at::Tensor&, const OptionalTensor&, bool,
                            bool) {
  return at::empty_symint(x.sym_sizes(), x.options());
}
CausalConvGradientTuple causal_conv_backward_meta(const at::Tensor&, const at::Tensor& x,
                                                  const at::Tensor& weight,
                                                  const OptionalTensor& bias, bool, bool) {
  return {at::empty_symint(x.sym_sizes(), x.options()),
          at::empty_symint(weight.sym_sizes(), weight.options()),
          bias && bias->defined() ? at::empty_symint(bias->sym_sizes(), bias->options())
                                  : at::empty({0}, x.options())};
}

}  // namespace

at::Tensor causal_conv(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       const CausalConvOptions& options) {
  return call(x, weight, optional(bias), options.silu, options.reverse);
}

TORCH_LIBRARY_IMPL(comba, Autograd, m) {
  m.impl("causal_conv", &causal_conv_autograd);
  m.impl("causal_conv_backward", torch::autograd::autogradNotImplementedFallback());
}

TORCH_LIBRARY_IMPL(comba, Meta, m) {
  m.impl("causal_conv", &causal_conv_meta);
  m.impl("causal_conv_backward", &causal_conv_backward_meta);
}

}  // namespace comba::kernels
