// Gradients of both operators. The inputs alone are saved; the backward operators recompute the states.
#include "kernels/scan_problem.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace comba::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::Variable;
using torch::autograd::variable_list;

template <typename Signature>
auto operator_handle(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

at::Tensor wanted(const at::Tensor& gradient, const at::Tensor& input) {
  return input.defined() ? gradient : at::Tensor();
}

class ScanFunction : public Function<ScanFunction> {
 public:
  static variable_list forward(AutogradContext* context, const Variable& q, const Variable& k,
                               const Variable& v, const Variable& log_alpha, const Variable& beta,
                               const Variable& c, const OptionalTensor& d,
                               const OptionalTensor& initial_state, double scale,
                               bool decayed_feedback, bool reverse) {
    at::AutoDispatchBelowADInplaceOrView guard;
    static const auto op = operator_handle<std::tuple<at::Tensor, at::Tensor>(
        const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
        const at::Tensor&, const at::Tensor&, const OptionalTensor&, const OptionalTensor&, double,
        bool, bool)>("comba::scan");
    auto [o, final_state] =
        op.call(q, k, v, log_alpha, beta, c, d, initial_state, scale, decayed_feedback, reverse);
    context->save_for_backward({q, k, v, log_alpha, beta, c, d.value_or(at::Tensor()),
                                initial_state.value_or(at::Tensor())});
    context->saved_data["scale"] = scale;
    context->saved_data["decayed_feedback"] = decayed_feedback;
    context->saved_data["reverse"] = reverse;
    context->set_materialize_grads(false);
    return {o, final_state};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list s = context->get_saved_variables();
    if (!gradients[0].defined() && !gradients[1].defined()) {
      return variable_list(11);
    }
    static const auto op = operator_handle<ScanGradientTuple(
        const OptionalTensor&, const OptionalTensor&, const at::Tensor&, const at::Tensor&,
        const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
        const OptionalTensor&, const OptionalTensor&, double, bool, bool)>("comba::scan_backward");
    auto [q, k, v, log_alpha, beta, c, d, state] = op.call(
        optional(gradients[0]), optional(gradients[1]), s[0], s[1], s[2], s[3], s[4], s[5],
        optional(s[6]), optional(s[7]), context->saved_data["scale"].toDouble(),
        context->saved_data["decayed_feedback"].toBool(), context->saved_data["reverse"].toBool());
    return {
        q,          k,          v,         log_alpha, beta, c, wanted(d, s[6]), wanted(state, s[7]),
        Variable(), Variable(), Variable()};
  }
};

class BidirectionalScanFunction : public Function<BidirectionalScanFunction> {
 public:
  static Variable forward(AutogradContext* context, const Variable& q, const Variable& k,
                          const Variable& v, const Variable& log_alpha, const Variable& beta,
                          const Variable& c, const OptionalTensor& d, double scale,
                          bool decayed_feedback, c10::string_view merge) {
    at::AutoDispatchBelowADInplaceOrView guard;
    static const auto op =
        operator_handle<at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                   const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                   const OptionalTensor&, double, bool, c10::string_view)>(
            "comba::bidirectional_scan");
    const at::Tensor o = op.call(q, k, v, log_alpha, beta, c, d, scale, decayed_feedback, merge);
    context->save_for_backward({q, k, v, log_alpha, beta, c, d.value_or(at::Tensor())});
    context->saved_data["scale"] = scale;
    context->saved_data["decayed_feedback"] = decayed_feedback;
    context->saved_data["merge"] = std::string(merge);
    return o;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list s = context->get_saved_variables();
    static const auto op = operator_handle<BidirectionalGradientTuple(
        const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
        const at::Tensor&, const at::Tensor&, const at::Tensor&, const OptionalTensor&, double,
        bool, c10::string_view)>("comba::bidirectional_scan_backward");
    const std::string merge = context->saved_data["merge"].toStringRef();
    auto [q, k, v, log_alpha, beta, c, d] =
        op.call(gradients[0], s[0], s[1], s[2], s[3], s[4], s[5], optional(s[6]),
                context->saved_data["scale"].toDouble(),
                context->saved_data["decayed_feedback"].toBool(), merge);
    return {q, k, v, log_alpha, beta, c, wanted(d, s[6]), Variable(), Variable(), Variable()};
  }
};

std::tuple<at::Tensor, at::Tensor> scan(const at::Tensor& q, const at::Tensor& k,
                                        const at::Tensor& v, const at::Tensor& log_alpha,
                                        const at::Tensor& beta, const at::Tensor& c,
                                        const OptionalTensor& d,
                                        const OptionalTensor& initial_state, double scale,
                                        bool decayed_feedback, bool reverse) {
  const variable_list out = ScanFunction::apply(q, k, v, log_alpha, beta, c, d, initial_state,
                                                scale, decayed_feedback, reverse);
  return {out[0], out[1]};
}

at::Tensor bidirectional_scan(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const at::Tensor& log_alpha, const at::Tensor& beta,
                              const at::Tensor& c, const OptionalTensor& d, double scale,
                              bool decayed_feedback, c10::string_view merge) {
  return BidirectionalScanFunction::apply(q, k, v, log_alpha, beta, c, d, scale, decayed_feedback,
                                          merge);
}

}  // namespace

TORCH_LIBRARY_IMPL(comba, Autograd, m) {
  m.impl("scan", &scan);
  m.impl("bidirectional_scan", &bidirectional_scan);
  // Differentiating a backward operator throws and names it.
  m.impl("scan_backward", torch::autograd::autogradNotImplementedFallback());
  m.impl("bidirectional_scan_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace comba::kernels
