#include "kernels/selective_scan/selective_scan.h"

#include "kernels/selective_scan/selective_scan_operators.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

namespace comba::kernels {
namespace {

constexpr const char* kOp = "comba::selective_scan";
constexpr const char* kHelp = " (see kernels/selective_scan/selective_scan.h)";
constexpr int64_t kCudaStates = 16;

bool given(const OptionalTensor& x) { return x && x->defined(); }

void check(const char* name, const at::Tensor& x, const at::Tensor& u, at::IntArrayRef sizes,
           const char* letters) {
  TORCH_CHECK(x.device() == u.device(), kOp, ": ", name, ": expected device ", u.device(),
              " as for u, got ", x.device());
  TORCH_CHECK(x.sizes() == sizes, kOp, ": ", name, ": expected shape ", letters, " = ", sizes,
              ", got ", x.sizes(), kHelp);
}

at::Tensor rows(const char* name, const at::Tensor& x, const at::Tensor& u, at::IntArrayRef sizes,
                const char* letters) {
  check(name, x, u, sizes, letters);
  TORCH_CHECK(x.scalar_type() == u.scalar_type(), kOp, ": ", name, ": expected dtype ",
              u.scalar_type(), " as for u, got ", x.scalar_type(), "; convert one of them");
  return x.stride(-1) == 1 ? x : x.contiguous();
}

at::ScalarType accumulation(const at::Tensor& u) {
  return u.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor parameter(const char* name, const at::Tensor& x, const at::Tensor& u,
                     at::IntArrayRef sizes, const char* letters) {
  check(name, x, u, sizes, letters);
  TORCH_CHECK(at::isFloatingType(x.scalar_type()), kOp, ": ", name,
              ": expected a floating dtype, got ", x.scalar_type());
  return x.to(accumulation(u)).contiguous();
}

SelectiveScanProblem make_problem(const at::Tensor& u, const at::Tensor& delta, const at::Tensor& A,
                                  const at::Tensor& B, const at::Tensor& C, const OptionalTensor& D,
                                  const OptionalTensor& z, const OptionalTensor& delta_bias,
                                  bool reverse) {
  TORCH_CHECK(u.dim() == 3, kOp, ": u: expected shape [B, T, C], got ", u.sizes(), kHelp);
  const auto dtype = u.scalar_type();
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf ||
                  (dtype == at::kDouble && !u.is_cuda()),
              kOp, ": u: expected dtype float32, bfloat16, float16 or, on the CPU, float64, got ",
              dtype);
  TORCH_CHECK(A.dim() == 2 && A.size(1) > 0, kOp, ": A: expected shape [C, N], got ", A.sizes(),
              kHelp);
  TORCH_CHECK(!u.is_cuda() || A.size(1) == kCudaStates, kOp, ": A: ", A.size(1),
              " states are not built for CUDA; expected N = ", kCudaStates);
  const int64_t batch = u.size(0), length = u.size(1), channels = u.size(2), states = A.size(1);
  SelectiveScanProblem p;
  p.u = rows("u", u, u, u.sizes(), "[B, T, C]");
  p.delta = rows("delta", delta, u, u.sizes(), "[B, T, C]");
  p.A = parameter("A", A, u, {channels, states}, "[C, N]");
  p.B = rows("B", B, u, {batch, length, states}, "[B, T, N]");
  p.C = rows("C", C, u, {batch, length, states}, "[B, T, N]");
  p.D = given(D) ? parameter("D", *D, u, {channels}, "[C]") : at::Tensor();
  p.z = given(z) ? rows("z", *z, u, u.sizes(), "[B, T, C]") : at::Tensor();
  p.delta_bias =
      given(delta_bias) ? parameter("delta_bias", *delta_bias, u, {channels}, "[C]") : at::Tensor();
  p.reverse = reverse;
  return p;
}

}  // namespace

at::Tensor run_selective_scan(const SelectiveScanBackend& backend, const at::Tensor& u,
                              const at::Tensor& delta, const at::Tensor& A, const at::Tensor& B,
                              const at::Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                              const OptionalTensor& delta_bias, bool reverse) {
  const SelectiveScanProblem problem = make_problem(u, delta, A, B, C, D, z, delta_bias, reverse);
  const at::Tensor y = at::empty(u.sizes(), u.options());
  if (y.numel() > 0) {
    backend.forward(problem, y);
  }
  return y;
}

SelectiveScanGradientTuple run_selective_scan_backward(
    const SelectiveScanBackend& backend, const at::Tensor& grad_y, const at::Tensor& u,
    const at::Tensor& delta, const at::Tensor& A, const at::Tensor& B, const at::Tensor& C,
    const OptionalTensor& D, const OptionalTensor& z, const OptionalTensor& delta_bias,
    bool reverse) {
  const SelectiveScanProblem problem = make_problem(u, delta, A, B, C, D, z, delta_bias, reverse);
  const at::Tensor dy = rows("grad_y", grad_y, u, u.sizes(), "[B, T, C]").contiguous();
  const auto like = [&](const at::Tensor& x) {
    return x.defined() ? at::empty(x.sizes(), x.options()) : at::Tensor();
  };
  const auto zeros = [&](const at::Tensor& x) {
    return x.defined() ? at::zeros(x.sizes(), x.options()) : at::Tensor();
  };
  SelectiveScanGradients g{like(problem.u),  like(problem.delta),      like(problem.z),
                           zeros(problem.A), zeros(problem.B),         zeros(problem.C),
                           zeros(problem.D), zeros(problem.delta_bias)};
  if (u.numel() > 0) {
    backend.backward(problem, dy, g);
  }
  const auto returned = [&](const at::Tensor& gradient, const OptionalTensor& of) {
    return given(of) ? gradient.to(of->scalar_type()).contiguous()
                     : at::empty({0}, problem.A.options());
  };
  return {g.u,
          g.delta,
          returned(g.A, A),
          returned(g.B, B),
          returned(g.C, C),
          returned(g.D, D),
          given(z) ? g.z : at::empty({0}, problem.A.options()),
          returned(g.delta_bias, delta_bias)};
}

at::Tensor selective_scan(const SelectiveScanInputs& in, bool reverse) {
  using Signature = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                               const at::Tensor&, const at::Tensor&, const OptionalTensor&,
                               const OptionalTensor&, const OptionalTensor&, bool);
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(kOp, "").typed<Signature>();
  return op.call(in.u, in.delta, in.A, in.B, in.C, optional(in.D), optional(in.z),
                 optional(in.delta_bias), reverse);
}

}  // namespace comba::kernels
