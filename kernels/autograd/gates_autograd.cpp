// Gradients of the gates' operator.
#include "kernels/gates_operators.h"
#include "kernels/optional_tensor.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace comba::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

struct GateFunction : torch::autograd::Function<GateFunction> {
  static variable_list forward(AutogradContext* context, const Variable& raw, const Variable& A_log,
                               const Variable& dt_bias, const OptionalTensor& decay,
                               double feedback) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    static const auto op =
        c10::Dispatcher::singleton()
            .findSchemaOrThrow("comba::gates", "")
            .typed<GateTensors(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                               const OptionalTensor&, double)>();
    const auto [log_alpha, beta, c] = op.call(raw, A_log, dt_bias, decay, feedback);
    context->save_for_backward({raw, A_log, dt_bias, decay.value_or(at::Tensor())});
    context->saved_data["feedback"] = feedback;
    return {log_alpha, beta, c};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list s = context->get_saved_variables();
    static const auto op =
        c10::Dispatcher::singleton()
            .findSchemaOrThrow("comba::gates_backward", "")
            .typed<GateGradientTuple(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                     const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                     const OptionalTensor&, double)>();
    const auto [raw, A_log, dt_bias, decay] =
        op.call(gradients[0], gradients[1], gradients[2], s[0], s[1], s[2], optional(s[3]),
                context->saved_data["feedback"].toDouble());
    return {raw, A_log, dt_bias, s[3].defined() ? decay : Variable(), Variable()};
  }
};

GateTensors gates(const at::Tensor& raw, const at::Tensor& A_log, const at::Tensor& dt_bias,
                  const OptionalTensor& decay, double feedback) {
  const variable_list out = GateFunction::apply(raw, A_log, dt_bias, decay, feedback);
  return {out[0], out[1], out[2]};
}

}  // namespace

TORCH_LIBRARY_IMPL(comba, Autograd, m) {
  m.impl("gates", &gates);
  m.impl("gates_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace comba::kernels
