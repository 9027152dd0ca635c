#include "kernels/block/causal_conv.h"

#include "kernels/block/causal_conv_operators.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/silu_backward.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>

namespace comba::kernels {
namespace {

constexpr const char* kOp = "comba::causal_conv";
constexpr const char* kSee = " (see kernels/block/causal_conv.h)";
constexpr int64_t kBatchAndTimeDims[] = {0, 1};
constexpr at::IntArrayRef kBatchAndTime = kBatchAndTimeDims;

at::ScalarType accumulation(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor checked_parameter(const char* name, const at::Tensor& parameter, const at::Tensor& x) {
  TORCH_CHECK(parameter.device() == x.device(), kOp, ": ", name, ": expected device ", x.device(),
              " as for x, got ", parameter.device());
  TORCH_CHECK(at::isFloatingType(parameter.scalar_type()), kOp, ": ", name,
              ": expected a floating dtype, got ", parameter.scalar_type());
  return parameter.to(accumulation(x)).contiguous();
}

CausalConvProblem checked(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias,
                          bool silu, bool reverse) {
  TORCH_CHECK(x.dim() == 3, kOp, ": x: expected shape [B, T, C], got ", x.sizes(), kSee);
  TORCH_CHECK(at::isFloatingType(x.scalar_type()), kOp, ": x: expected a floating dtype, got ",
              x.scalar_type());
  const int64_t channels = x.size(2);
  TORCH_CHECK(weight.dim() == 2 && weight.size(0) == channels && weight.size(1) > 0, kOp,
              ": weight: expected shape [C, taps] = [", channels, ", 1 or more], got ",
              weight.sizes(), kSee);
  CausalConvProblem problem;
  problem.x = x.stride(2) == 1 ? x : x.contiguous();
  problem.weight = checked_parameter("weight", weight, x);
  if (bias && bias->defined()) {
    TORCH_CHECK(bias->dim() == 1 && bias->size(0) == channels, kOp,
                ": bias: expected shape [C] = [", channels, "], got ", bias->sizes(), kSee);
    problem.bias = checked_parameter("bias", *bias, x);
  }
  problem.options = {silu, reverse};
  return problem;
}

// Token t of `late` meets token t - shift of `early`, for every t where both exist.
struct Overlap {
  at::Tensor late, early;
};
Overlap overlap(const at::Tensor& late, const at::Tensor& early, int64_t shift) {
  const int64_t length = std::max<int64_t>(0, late.size(1) - shift);
  return {late.narrow(1, late.size(1) - length, length), early.narrow(1, 0, length)};
}

// u, in the accumulation dtype. Each tap is added in place.
at::Tensor convolved(const CausalConvProblem& problem, const at::Tensor& x) {
  const at::Tensor& weight = problem.weight;
  const int64_t last = weight.size(1) - 1;
  at::Tensor u = x * weight.select(1, last);
  if (problem.bias.defined()) {
    u += problem.bias;
  }
  for (int64_t shift = 1; shift <= last; ++shift) {
    // Forward, u late = x early; in reverse u early = x late.
    const bool reverse = problem.options.reverse;
    auto [late, early] = reverse ? overlap(x, u, shift) : overlap(u, x, shift);
    (reverse ? early : late).addcmul_(reverse ? late : early, weight.select(1, last - shift));
  }
  return u;
}

}  // namespace

at::Tensor compose_causal_conv(const CausalConvProblem& problem) {
  const at::Tensor u = convolved(problem, problem.x.to(problem.weight.scalar_type()));
  return (problem.options.silu ? at::silu(u) : u).to(problem.x.scalar_type()).contiguous();
}

CausalConvGradients compose_causal_conv_backward(const CausalConvProblem& problem,
                                                 const at::Tensor& grad_y) {
  const at::Tensor &weight = problem.weight, x = problem.x.to(weight.scalar_type());
  at::Tensor du = grad_y.to(weight.scalar_type());
  if (problem.options.silu) {
    du = at::silu_backward(du, convolved(problem, x));
  }
  const int64_t last = weight.size(1) - 1;
  at::Tensor dx = du * weight.select(1, last), dweight = at::empty_like(weight);
  dweight.select(1, last).copy_((du * x).sum(kBatchAndTime));
  for (int64_t shift = 1; shift <= last; ++shift) {
    const bool reverse = problem.options.reverse;
    auto [late, early] = reverse ? overlap(dx, du, shift) : overlap(du, dx, shift);
    (reverse ? late : early).addcmul_(reverse ? early : late, weight.select(1, last - shift));
    const auto [a, b] = reverse ? overlap(x, du, shift) : overlap(du, x, shift);
    dweight.select(1, last - shift).copy_((a * b).sum(kBatchAndTime));
  }
  return {dx.to(problem.x.scalar_type()).contiguous(), dweight,
          problem.bias.defined() ? du.sum(kBatchAndTime) : at::Tensor()};
}

at::Tensor run_causal_conv(const CausalConvBackend& backend, const at::Tensor& x,
                           const at::Tensor& weight, const OptionalTensor& bias, bool silu,
                           bool reverse) {
  const CausalConvProblem problem = checked(x, weight, bias, silu, reverse);
  return x.numel() > 0 ? backend.forward(problem) : at::empty(x.sizes(), x.options());
}

CausalConvGradientTuple run_causal_conv_backward(const CausalConvBackend& backend,
                                                 const at::Tensor& grad_y, const at::Tensor& x,
                                                 const at::Tensor& weight,
                                                 const OptionalTensor& bias, bool silu,
                                                 bool reverse) {
  const CausalConvProblem problem = checked(x, weight, bias, silu, reverse);
  TORCH_CHECK(grad_y.sizes() == x.sizes(), kOp, ": grad_y: expected shape ", x.sizes(), ", got ",
              grad_y.sizes());
  const bool has_bias = problem.bias.defined();
  const CausalConvGradients gradients =
      x.numel() > 0
          ? backend.backward(problem, grad_y.to(x.scalar_type()))
          : CausalConvGradients{at::empty(x.sizes(), x.options()), at::zeros_like(problem.weight),
                                has_bias ? at::zeros_like(problem.bias) : at::Tensor()};
  return {gradients.x, gradients.weight.to(weight.scalar_type()),
          has_bias ? gradients.bias.to(bias->scalar_type()) : at::empty({0}, x.options())};
}

namespace {
constexpr CausalConvBackend kCpuBackend{&compose_causal_conv, &compose_causal_conv_backward};
}  // namespace

TORCH_LIBRARY_IMPL(comba, CPU, m) { register_causal_conv<&kCpuBackend>(m); }

}  // namespace comba::kernels
