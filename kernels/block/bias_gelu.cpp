#include "kernels/block/bias_gelu.h"

#include "kernels/block/bias_gelu_operators.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/gelu_backward.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>

namespace comba::kernels {
namespace {

constexpr const char* kOp = "comba::bias_gelu";

at::Tensor rows_of(const at::Tensor& x) { return x.contiguous().view({-1, x.size(-1)}); }

// In the accumulation dtype, or undefined.
at::Tensor checked_bias(const at::Tensor& x, const OptionalTensor& bias) {
  TORCH_CHECK(x.dim() >= 1 && x.size(-1) > 0, kOp, ": x: expected shape [..., f], got ", x.sizes());
  TORCH_CHECK(at::isFloatingType(x.scalar_type()), kOp, ": x: expected a floating dtype, got ",
              x.scalar_type());
  if (!bias || !bias->defined()) {
    return {};
  }
  TORCH_CHECK(bias->device() == x.device(), kOp, ": bias: expected device ", x.device(),
              " as for x, got ", bias->device());
  TORCH_CHECK(at::isFloatingType(bias->scalar_type()), kOp,
              ": bias: expected a floating dtype, got ", bias->scalar_type());
  TORCH_CHECK(bias->dim() == 1 && bias->size(0) == x.size(-1), kOp,
              ": bias: expected shape [f] = [", x.size(-1), "], got ", bias->sizes(),
              " (see kernels/block/bias_gelu.h)");
  return bias->to(x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat).contiguous();
}

// x + bias in the accumulation dtype
at::Tensor argument(const at::Tensor& x, const at::Tensor& bias) {
  const at::Tensor wide = x.to(x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  return bias.defined() ? wide + bias : wide;
}

}  // namespace

void compose_bias_gelu(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& y) {
  y.copy_(at::gelu(argument(x, bias)));
}

at::Tensor compose_bias_gelu_backward(const at::Tensor& grad_y, const at::Tensor& x,
                                      const at::Tensor& bias, const at::Tensor& grad_x) {
  const at::Tensor u = argument(x, bias);
  const at::Tensor grad = at::gelu_backward(grad_y.to(u.scalar_type()), u);
  grad_x.copy_(grad);
  return bias.defined() ? grad.sum(0) : at::Tensor();
}

at::Tensor run_bias_gelu(const BiasGeluBackend& backend, const at::Tensor& x,
                         const OptionalTensor& bias) {
  const at::Tensor wide = checked_bias(x, bias), y = at::empty(x.sizes(), x.options());
  if (x.numel() > 0) {
    backend.forward(rows_of(x), wide, y.view({-1, x.size(-1)}));
  }
  return y;
}

BiasGeluGradients run_bias_gelu_backward(const BiasGeluBackend& backend, const at::Tensor& grad_y,
                                         const at::Tensor& x, const OptionalTensor& bias) {
  const at::Tensor wide = checked_bias(x, bias), grad_x = at::empty(x.sizes(), x.options());
  TORCH_CHECK(grad_y.sizes() == x.sizes(), kOp, ": grad_y: expected shape ", x.sizes(), ", got ",
              grad_y.sizes());
  at::Tensor grad_bias = wide.defined() ? at::zeros(wide.sizes(), wide.options()) : at::Tensor();
  if (x.numel() > 0) {
    grad_bias = backend.backward(rows_of(grad_y.to(x.scalar_type())), rows_of(x), wide,
                                 grad_x.view({-1, x.size(-1)}));
  }
  return {grad_x, wide.defined() ? grad_bias.to(bias->scalar_type()) : at::empty({0}, x.options())};
}

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

struct BiasGeluFunction : torch::autograd::Function<BiasGeluFunction> {
  static Variable forward(AutogradContext* context, const Variable& x, const OptionalTensor& bias) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow(kOp, "")
                               .typed<at::Tensor(const at::Tensor&, const OptionalTensor&)>();
    context->save_for_backward({x, bias.value_or(at::Tensor())});
    return op.call(x, bias);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list s = context->get_saved_variables();
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("comba::bias_gelu_backward", "")
                               .typed<BiasGeluGradients(const at::Tensor&, const at::Tensor&,
                                                        const OptionalTensor&)>();
    const auto [x, bias] = op.call(gradients[0], s[0], optional(s[1]));
    return {x, s[1].defined() ? bias : Variable()};
  }
};

at::Tensor bias_gelu_autograd(const at::Tensor& x, const OptionalTensor& bias) {
  return BiasGeluFunction::apply(x, bias);
}
at::Tensor bias_gelu_meta(const at::Tensor& x, const OptionalTensor&) {
  return at::empty_symint(x.sym_sizes(), x.options());
}
BiasGeluGradients bias_gelu_backward_meta(const at::Tensor&, const at::Tensor& x,
                                          const OptionalTensor& bias) {
  return {at::empty_symint(x.sym_sizes(), x.options()),
          bias && bias->defined() ? at::empty_symint(bias->sym_sizes(), bias->options())
                                  : at::empty({0}, x.options())};
}

constexpr BiasGeluBackend kCpuBackend{&compose_bias_gelu, &compose_bias_gelu_backward};

}  // namespace

at::Tensor bias_gelu(const at::Tensor& x, const at::Tensor& bias) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow(kOp, "")
                             .typed<at::Tensor(const at::Tensor&, const OptionalTensor&)>();
  return op.call(x, optional(bias));
}

TORCH_LIBRARY_IMPL(comba, CPU, m) { register_bias_gelu<&kCpuBackend>(m); }

TORCH_LIBRARY_IMPL(comba, Autograd, m) {
  m.impl("bias_gelu", &bias_gelu_autograd);
  m.impl("bias_gelu_backward", torch::autograd::autogradNotImplementedFallback());
}

TORCH_LIBRARY_IMPL(comba, Meta, m) {
  m.impl("bias_gelu", &bias_gelu_meta);
  m.impl("bias_gelu_backward", &bias_gelu_backward_meta);
}

}  // namespace comba::kernels
