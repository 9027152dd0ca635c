#include "kernels/gates.h"

#include "kernels/gates_operators.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

namespace comba::kernels {
namespace {

constexpr const char* kOp = "comba::gates";

void check_parameter(const char* name, const at::Tensor& x, const at::Tensor& raw) {
  const int64_t directions = raw.size(3), heads = raw.size(4);
  TORCH_CHECK(x.device() == raw.device(), kOp, ": ", name, ": expected device ", raw.device(),
              " as for raw, got ", x.device());
  TORCH_CHECK(at::isFloatingType(x.scalar_type()), kOp, ": ", name,
              ": expected a floating dtype, got ", x.scalar_type());
  TORCH_CHECK(x.dim() == 2 && x.size(0) == directions && x.size(1) == heads, kOp, ": ", name,
              ": expected shape [R, H] = [", directions, ", ", heads, "], got ", x.sizes(),
              " (see kernels/gates.h)");
}

// Elements from a token to the next one, whichever sample's; 0 if they are not evenly apart or not dense in themselves.
int64_t token_stride(const at::Tensor& raw) {
  const int64_t dense = 2 * raw.size(3) * raw.size(4);
  const int64_t stride = raw.size(1) > 1 ? raw.stride(1) : raw.size(0) > 1 ? raw.stride(0) : dense;
  const bool even = raw.size(0) <= 1 || raw.size(1) <= 1 || raw.stride(0) == raw.size(1) * stride;
  return even && stride >= dense && raw[0][0].is_contiguous() ? stride : 0;
}

GateProblem make_problem(const at::Tensor& raw, const at::Tensor& A_log, const at::Tensor& dt_bias,
                         const std::optional<at::Tensor>& decay, double feedback) {
  TORCH_CHECK(raw.dim() == 5 && raw.size(2) == 2 && (raw.size(3) == 1 || raw.size(3) == 2), kOp,
              ": raw: expected shape [B, T, 2, R, H] with 1 or 2 directions R, got ", raw.sizes(),
              " (see kernels/gates.h)");
  TORCH_CHECK(at::isFloatingType(raw.scalar_type()), kOp, ": raw: expected a floating dtype, got ",
              raw.scalar_type());
  TORCH_CHECK(raw.scalar_type() != at::kDouble || !raw.is_cuda(), kOp,
              ": raw: float64 runs on the CPU only; convert to float32 or move the tensors");
  check_parameter("A_log", A_log, raw);
  check_parameter("dt_bias", dt_bias, raw);
  const auto accum = raw.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto wide = [&](const at::Tensor& x) { return x.to(accum).contiguous(); };
  GateProblem problem{raw.to(accum), wide(A_log), wide(dt_bias), {}, feedback};
  problem.token_stride = raw.numel() > 0 ? token_stride(problem.raw) : 0;
  if (problem.token_stride == 0) {
    problem.raw = problem.raw.contiguous();
    problem.token_stride = 2 * raw.size(3) * raw.size(4);
  }
  if (decay && decay->defined()) {
    check_parameter("decay", *decay, raw);
    problem.decay = wide(*decay);
  }
  return problem;
}

}  // namespace

GateTensors run_gates(const GateBackend& backend, const at::Tensor& raw, const at::Tensor& A_log,
                      const at::Tensor& dt_bias, const std::optional<at::Tensor>& decay,
                      double feedback) {
  const GateProblem problem = make_problem(raw, A_log, dt_bias, decay, feedback);
  const auto empty = [&] {
    return at::empty({raw.size(3), raw.size(0), raw.size(1), raw.size(4)}, problem.raw.options());
  };
  const GateTensors gates{empty(), empty(), empty()};
  backend.forward(problem, gates);
  return gates;
}

GateGradientTuple run_gates_backward(const GateBackend& backend, const at::Tensor& grad_log_alpha,
                                     const at::Tensor& grad_beta, const at::Tensor& grad_c,
                                     const at::Tensor& raw, const at::Tensor& A_log,
                                     const at::Tensor& dt_bias,
                                     const std::optional<at::Tensor>& decay, double feedback) {
  const GateProblem problem = make_problem(raw, A_log, dt_bias, decay, feedback);
  const at::Tensor grad_raw = at::empty(problem.raw.sizes(), problem.raw.options());
  const auto dense = [&](const at::Tensor& x) {
    return x.to(problem.raw.scalar_type()).contiguous();
  };
  const at::Tensor sums =
      backend.backward(problem, {dense(grad_log_alpha), dense(grad_beta), dense(grad_c)}, grad_raw);
  // Tensors of their own: outputs of an operator must not alias.
  const auto own = [&](int64_t kind, const at::Tensor& like) {
    return sums[kind].to(like.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
  };
  return {grad_raw.to(raw.scalar_type()), own(0, A_log), own(1, dt_bias),
          problem.decay.defined() ? own(2, *decay) : at::empty({0}, problem.raw.options())};
}

ScanGates gates(const GateInputs& inputs) {
  using Signature = GateTensors(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                const std::optional<at::Tensor>&, double);
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("comba::gates", "").typed<Signature>();
  const auto [log_alpha, beta, c] =
      op.call(inputs.raw, inputs.A_log, inputs.dt_bias,
              inputs.decay.defined() ? std::optional(inputs.decay) : std::nullopt, inputs.feedback);
  return {log_alpha, beta, c};
}

}  // namespace comba::kernels
