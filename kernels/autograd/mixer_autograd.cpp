// Gradients of the mixer operator; o is not differentiable.
#include "kernels/mixer_operators.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace comba::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

struct MixerFunction : torch::autograd::Function<MixerFunction> {
  static variable_list forward(AutogradContext* context, const Variable& qkv, const Variable& taps,
                               const Variable& log_alpha, const Variable& beta, const Variable& c,
                               const OptionalTensor& d, const OptionalTensor& gate,
                               const Variable& norm_weight, double scale, bool decayed_feedback,
                               bool normalize, c10::string_view merge, double norm_eps) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    static const auto op =
        c10::Dispatcher::singleton()
            .findSchemaOrThrow("comba::mixer", "")
            .typed<std::tuple<at::Tensor, at::Tensor>(
                const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                const at::Tensor&, const OptionalTensor&, const OptionalTensor&, const at::Tensor&,
                double, bool, bool, c10::string_view, double)>();
    const auto [y, o] = op.call(qkv, taps, log_alpha, beta, c, d, gate, norm_weight, scale,
                                decayed_feedback, normalize, merge, norm_eps);
    context->save_for_backward({qkv, taps, log_alpha, beta, c, d.value_or(at::Tensor()),
                                gate.value_or(at::Tensor()), norm_weight, o});
    context->saved_data["scale"] = scale;
    context->saved_data["decayed_feedback"] = decayed_feedback;
    context->saved_data["normalize"] = normalize;
    context->saved_data["merge"] = std::string(merge);
    context->saved_data["norm_eps"] = norm_eps;
    context->mark_non_differentiable({o});
    context->set_materialize_grads(false);  // o has none, and zeros of its size take time
    return {y, o};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    if (!gradients[0].defined()) {
      return variable_list(13);
    }
    const variable_list s = context->get_saved_variables();
    static const auto op =
        c10::Dispatcher::singleton()
            .findSchemaOrThrow("comba::mixer_backward", "")
            .typed<MixerGradientTuple(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                      const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                      const at::Tensor&, const OptionalTensor&,
                                      const OptionalTensor&, const at::Tensor&, double, bool, bool,
                                      c10::string_view, double)>();
    auto& data = context->saved_data;
    const std::string merge = data["merge"].toStringRef();
    auto [qkv, taps, log_alpha, beta, c, d, gate, norm_weight] =
        op.call(gradients[0], s[8], s[0], s[1], s[2], s[3], s[4], optional(s[5]), optional(s[6]),
                s[7], data["scale"].toDouble(), data["decayed_feedback"].toBool(),
                data["normalize"].toBool(), merge, data["norm_eps"].toDouble());
    return {qkv,
            taps,
            log_alpha,
            beta,
            c,
            s[5].defined() ? d : Variable(),
            s[6].defined() ? gate : Variable(),
            norm_weight,
            Variable(),
            Variable(),
            Variable(),
            Variable(),
            Variable()};
  }
};

std::tuple<at::Tensor, at::Tensor> mixer(const at::Tensor& qkv, const at::Tensor& taps,
                                         const at::Tensor& log_alpha, const at::Tensor& beta,
                                         const at::Tensor& c, const OptionalTensor& d,
                                         const OptionalTensor& gate, const at::Tensor& norm_weight,
                                         double scale, bool decayed_feedback, bool normalize,
                                         c10::string_view merge, double norm_eps) {
  const variable_list out =
      MixerFunction::apply(qkv, taps, log_alpha, beta, c, d, gate, norm_weight, scale,
                           decayed_feedback, normalize, merge, norm_eps);
  return {out[0], out[1]};
}

}  // namespace

TORCH_LIBRARY_IMPL(comba, Autograd, m) {
  m.impl("mixer", &mixer);
  m.impl("mixer_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace comba::kernels
