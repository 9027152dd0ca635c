// Shapes and gradients of comba::mlp.
#include "kernels/block/mlp_operators.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>

namespace comba::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

struct MlpFunction : torch::autograd::Function<MlpFunction> {
  static Variable forward(AutogradContext* context, const Variable& x, const Variable& weight1,
                          const OptionalTensor& bias1, const Variable& weight2,
                          const OptionalTensor& bias2) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    static const auto op =
        c10::Dispatcher::singleton()
            .findSchemaOrThrow("comba::mlp", "")
            .typed<at::Tensor(const at::Tensor&, const at::Tensor&, const OptionalTensor&,
                              const at::Tensor&, const OptionalTensor&)>();
    context->save_for_backward(
        {x, weight1, bias1.value_or(at::Tensor()), weight2, bias2.value_or(at::Tensor())});
    return op.call(x, weight1, bias1, weight2, bias2);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const variable_list s = context->get_saved_variables();
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("comba::mlp_backward", "")
                               .typed<MlpGradientTuple(const at::Tensor&, const at::Tensor&,
                                                       const at::Tensor&, const OptionalTensor&,
                                                       const at::Tensor&, const OptionalTensor&)>();
    const auto [x, weight1, bias1, weight2, bias2] =
        op.call(gradients[0], s[0], s[1], optional(s[2]), s[3], optional(s[4]));
    return {x, weight1, s[2].defined() ? bias1 : Variable(), weight2,
            s[4].defined() ? bias2 : Variable()};
  }
};

at::Tensor mlp_autograd(const at::Tensor& x, const at::Tensor& weight1, const OptionalTensor& bias1,
                        const at::Tensor& weight2, const OptionalTensor& bias2) {
  return MlpFunction::apply(x, weight1, bias1, weight2, bias2);
}

at::Tensor like(const at::Tensor& x) { return at::empty_symint(x.sym_sizes(), x.options()); }

at::Tensor mlp_meta(const at::Tensor& x, const at::Tensor&, const OptionalTensor&,
                    const at::Tensor& weight2, const OptionalTensor&) {
  auto sizes = x.sym_sizes().vec();
  sizes.back() = weight2.sym_size(0);
  return at::empty_symint(sizes, x.options());
}

MlpGradientTuple mlp_backward_meta(const at::Tensor&, const at::Tensor& x,
                                   const at::Tensor& weight1, const OptionalTensor& bias1,
                                   const at::Tensor& weight2, const OptionalTensor& bias2) {
  const auto of = [&](const OptionalTensor& bias) {
    return bias && bias->defined() ? like(*bias) : at::empty({0}, x.options());
  };
  return {like(x), like(weight1), of(bias1), like(weight2), of(bias2)};
}

}  // namespace

TORCH_LIBRARY_IMPL(comba, Autograd, m) {
  m.impl("mlp", &mlp_autograd);
  m.impl("mlp_backward", torch::autograd::autogradNotImplementedFallback());
}

TORCH_LIBRARY_IMPL(comba, Meta, m) {
  m.impl("mlp", &mlp_meta);
  m.impl("mlp_backward", &mlp_backward_meta);
}

}  // namespace comba::kernels
