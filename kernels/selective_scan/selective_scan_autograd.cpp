// Shapes and gradients of comba::selective_scan.
#include "kernels/selective_scan/selective_scan_operators.h"

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

struct SelectiveScanFunction : torch::autograd::Function<SelectiveScanFunction> {
  static Variable forward(AutogradContext* context, const Variable& u, const Variable& delta,
                          const Variable& A, const Variable& B, const Variable& C,
                          const OptionalTensor& D, const OptionalTensor& z,
                          const OptionalTensor& delta_bias, bool reverse) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    static const auto op =
        c10::Dispatcher::singleton()
            .findSchemaOrThrow("comba::selective_scan", "")
            .typed<at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                              const at::Tensor&, const at::Tensor&, const OptionalTensor&,
                              const OptionalTensor&, const OptionalTensor&, bool)>();
    const auto plain = [](const OptionalTensor& x) { return x.value_or(at::Tensor()); };
    context->save_for_backward({u, delta, A, B, C, plain(D), plain(z), plain(delta_bias)});
    context->saved_data["reverse"] = reverse;
    return op.call(u, delta, A, B, C, D, z, delta_bias, reverse);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const variable_list s = context->get_saved_variables();
    static const auto op =
        c10::Dispatcher::singleton()
            .findSchemaOrThrow("comba::selective_scan_backward", "")
            .typed<SelectiveScanGradientTuple(
                const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                const at::Tensor&, const at::Tensor&, const OptionalTensor&, const OptionalTensor&,
                const OptionalTensor&, bool)>();
    const auto [u, delta, A, B, C, D, z, delta_bias] =
        op.call(gradients[0], s[0], s[1], s[2], s[3], s[4], optional(s[5]), optional(s[6]),
                optional(s[7]), context->saved_data["reverse"].toBool());
    const auto of = [&](const Variable& gradient, size_t i) {
      return s[i].defined() ? gradient : Variable();
    };
    return {u, delta, A, B, C, of(D, 5), of(z, 6), of(delta_bias, 7), Variable()};
  }
};

at::Tensor selective_scan_autograd(const at::Tensor& u, const at::Tensor& delta,
                                   const at::Tensor& A, const at::Tensor& B, const at::Tensor& C,
                                   const OptionalTensor& D, const OptionalTensor& z,
                                   const OptionalTensor& delta_bias, bool reverse) {
  return SelectiveScanFunction::apply(u, delta, A, B, C, D, z, delta_bias, reverse);
}

at::Tensor like(const at::Tensor& x) { return at::empty_symint(x.sym_sizes(), x.options()); }

at::Tensor selective_scan_meta(const at::Tensor& u, const at::Tensor&, const at::Tensor&,
                               const at::Tensor&, const at::Tensor&, const OptionalTensor&,
                               const OptionalTensor&, const OptionalTensor&, bool) {
  return like(u);
}

SelectiveScanGradientTuple selective_scan_backward_meta(
    const at::Tensor&, const at::Tensor& u, const at::Tensor& delta, const at::Tensor& A,
    const at::Tensor& B, const at::Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
    const OptionalTensor& delta_bias, bool) {
  const auto accumulation = u.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto of = [&](const OptionalTensor& x) {
    return x && x->defined() ? like(*x) : at::empty({0}, A.options().dtype(accumulation));
  };
  return {like(u), like(delta), like(A), like(B), like(C), of(D), of(z), of(delta_bias)};
}

}  // namespace

TORCH_LIBRARY_IMPL(comba, Autograd, m) {
  m.impl("selective_scan", &selective_scan_autograd);
  m.impl("selective_scan_backward", torch::autograd::autogradNotImplementedFallback());
}

TORCH_LIBRARY_IMPL(comba, Meta, m) {
  m.impl("selective_scan", &selective_scan_meta);
  m.impl("selective_scan_backward", &selective_scan_backward_meta);
}

}  // namespace comba::kernels
