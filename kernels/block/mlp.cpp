#include "kernels/block/mlp.h"

#include "kernels/block/column_sums.h"
#include "kernels/block/mlp_operators.h"
#include "kernels/block/wide_product.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/gelu_backward.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <c10/util/Exception.h>

namespace comba::kernels {
namespace {

constexpr const char* kOp = "comba::mlp";

void check_parameter(const char* name, const at::Tensor& parameter, const at::Tensor& x,
                     at::IntArrayRef sizes) {
  TORCH_CHECK(parameter.device() == x.device(), kOp, ": ", name, ": expected device ", x.device(),
              " as for x, got ", parameter.device());
  TORCH_CHECK(at::isFloatingType(parameter.scalar_type()), kOp, ": ", name,
              ": expected a floating dtype, got ", parameter.scalar_type());
  TORCH_CHECK(parameter.sizes() == sizes, kOp, ": ", name, ": expected shape ", sizes, ", got ",
              parameter.sizes(), " (see kernels/block/mlp.h)");
}

MlpProblem make_problem(const at::Tensor& x, const at::Tensor& weight1, const OptionalTensor& bias1,
                        const at::Tensor& weight2, const OptionalTensor& bias2) {
  TORCH_CHECK(x.dim() >= 2 && at::isFloatingType(x.scalar_type()), kOp,
              ": x: expected [..., d] of a floating dtype, got ", x.scalar_type(), " ", x.sizes());
  TORCH_CHECK(weight1.dim() == 2 && weight2.dim() == 2, kOp,
              ": weight1, weight2: expected shapes [f, d] and [o, f], got ", weight1.sizes(),
              " and ", weight2.sizes());
  const int64_t hidden = weight1.size(0);
  check_parameter("weight1", weight1, x, {hidden, x.size(-1)});
  check_parameter("weight2", weight2, x, {weight2.size(0), hidden});
  MlpProblem problem{x.contiguous().view({-1, x.size(-1)}), weight1, {}, weight2, {}};
  if (bias1 && bias1->defined()) {
    check_parameter("bias1", *bias1, x, {hidden});
    problem.bias1 = *bias1;
  }
  if (bias2 && bias2->defined()) {
    check_parameter("bias2", *bias2, x, {weight2.size(0)});
    problem.bias2 = *bias2;
  }
  return problem;
}

std::vector<int64_t> output_sizes(const at::Tensor& x, const at::Tensor& weight2) {
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = weight2.size(0);
  return sizes;
}

at::Tensor like(const at::Tensor& x, const at::Tensor& parameter) {
  return parameter.defined() ? parameter.to(x.scalar_type()) : parameter;
}

at::Tensor hidden_argument(const MlpProblem& p) {
  return at::linear(p.x, like(p.x, p.weight1), like(p.x, p.bias1));
}

}  // namespace

at::Tensor compose_mlp(const MlpProblem& p) {
  return at::linear(at::gelu(hidden_argument(p)), like(p.x, p.weight2), like(p.x, p.bias2));
}

MlpGradients compose_mlp_backward(const MlpProblem& p, const at::Tensor& grad_y) {
  const at::Tensor u = hidden_argument(p),
                   grad_u = at::gelu_backward(at::mm(grad_y, like(p.x, p.weight2)), u);
  return {at::mm(grad_u, like(p.x, p.weight1)), wide_product(grad_u.t(), p.x),
          p.bias1.defined() ? column_sums(grad_u) : at::Tensor(),
          wide_product(grad_y.t(), at::gelu(u)),
          p.bias2.defined() ? column_sums(grad_y) : at::Tensor()};
}

at::Tensor run_mlp(const MlpBackend& backend, const at::Tensor& x, const at::Tensor& weight1,
                   const OptionalTensor& bias1, const at::Tensor& weight2,
                   const OptionalTensor& bias2) {
  const MlpProblem problem = make_problem(x, weight1, bias1, weight2, bias2);
  return backend.forward(problem).view(output_sizes(x, weight2));
}

MlpGradientTuple run_mlp_backward(const MlpBackend& backend, const at::Tensor& grad_y,
                                  const at::Tensor& x, const at::Tensor& weight1,
                                  const OptionalTensor& bias1, const at::Tensor& weight2,
                                  const OptionalTensor& bias2) {
  const MlpProblem problem = make_problem(x, weight1, bias1, weight2, bias2);
  const std::vector<int64_t> sizes = output_sizes(x, weight2);
  TORCH_CHECK(grad_y.sizes() == sizes, kOp, ": grad_y: expected shape ", sizes, ", got ",
              grad_y.sizes());
  const MlpGradients g = backend.backward(
      problem, grad_y.to(x.scalar_type()).contiguous().view({-1, weight2.size(0)}));
  const auto of = [&](const at::Tensor& gradient, const at::Tensor& parameter) {
    return parameter.defined() ? gradient.to(parameter.scalar_type())
                               : at::empty({0}, problem.x.options());
  };
  return {g.x.view(x.sizes()), of(g.weight1, problem.weight1), of(g.bias1, problem.bias1),
          of(g.weight2, problem.weight2), of(g.bias2, problem.bias2)};
}

namespace {

constexpr MlpBackend kCpuBackend{&compose_mlp, &compose_mlp_backward};

}  // namespace

at::Tensor mlp(const MlpInputs& in) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow(kOp, "")
          .typed<at::Tensor(const at::Tensor&, const at::Tensor&, const OptionalTensor&,
                            const at::Tensor&, const OptionalTensor&)>();
  return op.call(in.x, in.weight1, optional(in.bias1), in.weight2, optional(in.bias2));
}

#ifndef COMBA_CUDA
bool mlp_is_one_kernel(const at::Tensor&, at::ScalarType, int64_t) { return false; }
#endif

TORCH_LIBRARY_IMPL(comba, CPU, m) { register_mlp<&kCpuBackend>(m); }

}  // namespace comba::kernels
