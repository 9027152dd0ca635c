// Shapes and gradients of comba::add_norm.
#include "kernels/block/add_norm_operators.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>

namespace comba::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;
using Dtype = std::optional<at::ScalarType>;

at::Tensor like(const at::Tensor& x, Dtype dtype) {
  return at::empty_symint(x.sym_sizes(), x.options().dtype(dtype.value_or(x.scalar_type())));
}

struct AddNormFunction : torch::autograd::Function<AddNormFunction> {
  static variable_list forward(AutogradContext* context, const Variable& x,
                               const OptionalTensor& branch, const OptionalTensor& share,
                               const Variable& weight, const OptionalTensor& bias, double eps,
                               bool centred, Dtype dtype) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    static const auto op =
        c10::Dispatcher::singleton()
            .findSchemaOrThrow("comba::add_norm", "")
            .typed<AddNormTuple(const at::Tensor&, const OptionalTensor&, const OptionalTensor&,
                                const at::Tensor&, const OptionalTensor&, double, bool, Dtype)>();
    const auto [sum, y] = op.call(x, branch, share, weight, bias, eps, centred, dtype);
    const bool with_branch = branch && branch->defined();
    context->save_for_backward(
        {with_branch ? sum : x, share.value_or(at::Tensor()), weight, bias.value_or(at::Tensor())});
    context->saved_data["eps"] = eps;
    context->saved_data["centred"] = centred;
    context->saved_data["branch"] =
        static_cast<int64_t>(with_branch ? branch->scalar_type() : at::ScalarType::Undefined);
    context->set_materialize_grads(false);
    if (!with_branch) {
      context->mark_non_differentiable({sum});
    }
    return {sum, y};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list s = context->get_saved_variables();
    const at::Tensor &sum = s[0], &grad_sum = gradients[0];
    const at::Tensor grad_y = gradients[1].defined() ? gradients[1] : at::zeros_like(sum);
    const auto kind = static_cast<at::ScalarType>(context->saved_data["branch"].toInt());
    const bool with_branch = kind != at::ScalarType::Undefined;
    static const auto op =
        c10::Dispatcher::singleton()
            .findSchemaOrThrow("comba::add_norm_backward", "")
            .typed<AddNormGradientTuple(const OptionalTensor&, const at::Tensor&, const at::Tensor&,
                                        const OptionalTensor&, const at::Tensor&,
                                        const OptionalTensor&, double, bool, Dtype)>();
    const auto [x, branch, weight, bias] =
        op.call(with_branch ? optional(grad_sum) : OptionalTensor(), grad_y, sum, optional(s[1]),
                s[2], optional(s[3]), context->saved_data["eps"].toDouble(),
                context->saved_data["centred"].toBool(), with_branch ? Dtype(kind) : Dtype());
    const bool same = with_branch && branch.sym_numel() == 0 && x.sym_numel() != 0;
    return {x,
            same          ? x
            : with_branch ? branch.view_as(x)
                          : Variable(),
            Variable(),
            weight,
            s[3].defined() ? bias : Variable(),
            Variable(),
            Variable(),
            Variable()};
  }
};

AddNormTuple add_norm(const at::Tensor& x, const OptionalTensor& branch,
                      const OptionalTensor& share, const at::Tensor& weight,
                      const OptionalTensor& bias, double eps, bool centred, Dtype dtype) {
  const variable_list out =
      AddNormFunction::apply(x, branch, share, weight, bias, eps, centred, dtype);
  return {out[0], out[1]};
}

AddNormTuple add_norm_meta(const at::Tensor& x, const OptionalTensor& branch, const OptionalTensor&,
                           const at::Tensor&, const OptionalTensor&, double, bool, Dtype dtype) {
  return {branch && branch->defined() ? like(x, {}) : at::empty({0}, x.options()), like(x, dtype)};
}

AddNormGradientTuple add_norm_backward_meta(const OptionalTensor&, const at::Tensor&,
                                            const at::Tensor& sum, const OptionalTensor& share,
                                            const at::Tensor& weight, const OptionalTensor& bias,
                                            double, bool, Dtype branch) {
  const bool own = branch && ((share && share->defined()) || *branch != sum.scalar_type());
  return {like(sum, {}), own ? like(sum, branch) : at::empty({0}, sum.options()), like(weight, {}),
          bias && bias->defined() ? like(*bias, {}) : at::empty({0}, weight.options())};
}

}  // namespace

TORCH_LIBRARY_IMPL(comba, Autograd, m) {
  m.impl("add_norm", &add_norm);
  m.impl("add_norm_backward", torch::autograd::autogradNotImplementedFallback());
}

TORCH_LIBRARY_IMPL(comba, Meta, m) {
  m.impl("add_norm", &add_norm_meta);
  m.impl("add_norm_backward", &add_norm_backward_meta);
}

}  // namespace comba::kernels
