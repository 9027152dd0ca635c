// The operators comba::gates and comba::gates_backward, generic over the device. A device's file holds a GateBackend and
//   TORCH_LIBRARY_IMPL(comba, CPU, m) { register_gate_operators<&kBackend>(m); }
#pragma once

#include <optional>
#include <tuple>

#include <ATen/core/Tensor.h>
#include <torch/library.h>

namespace comba::kernels {

// The operators' tensors, checked; in the accumulation dtype, contiguous but for the tokens of raw.
struct GateProblem {
  at::Tensor raw;                    // [B, T, 2, R, H], tokens token_stride elements apart
  at::Tensor A_log, dt_bias, decay;  // [R, H]; decay may be undefined
  double feedback = 1;
  int64_t token_stride = 0;

  at::IntArrayRef parameter_sizes() const { return A_log.sizes(); }
};

using GateTensors = std::tuple<at::Tensor, at::Tensor, at::Tensor>;  // log_alpha, beta, c

struct GateBackend {
  // Into log_alpha, beta, c: [R, B, T, H] contiguous.
  void (*forward)(const GateProblem& problem, const GateTensors& gates);
  // From their gradients, contiguous, into that of raw; returns those of A_log, dt_bias, decay: [3, R, H].
  at::Tensor (*backward)(const GateProblem& problem, const GateTensors& grads,
                         const at::Tensor& grad_raw);
};

GateTensors run_gates(const GateBackend& backend, const at::Tensor& raw, const at::Tensor& A_log,
                      const at::Tensor& dt_bias, const std::optional<at::Tensor>& decay,
                      double feedback);

// Gradients of raw, A_log, dt_bias, decay; an absent decay has an empty one.
using GateGradientTuple = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
GateGradientTuple run_gates_backward(const GateBackend& backend, const at::Tensor& grad_log_alpha,
                                     const at::Tensor& grad_beta, const at::Tensor& grad_c,
                                     const at::Tensor& raw, const at::Tensor& A_log,
                                     const at::Tensor& dt_bias,
                                     const std::optional<at::Tensor>& decay, double feedback);

template <const GateBackend* kBackend>
struct GateOperators {
  static GateTensors forward(const at::Tensor& raw, const at::Tensor& A_log,
                             const at::Tensor& dt_bias, const std::optional<at::Tensor>& decay,
                             double feedback) {
    return run_gates(*kBackend, raw, A_log, dt_bias, decay, feedback);
  }
  static GateGradientTuple backward(const at::Tensor& grad_log_alpha, const at::Tensor& grad_beta,
                                    const at::Tensor& grad_c, const at::Tensor& raw,
                                    const at::Tensor& A_log, const at::Tensor& dt_bias,
                                    const std::optional<at::Tensor>& decay, double feedback) {
    return run_gates_backward(*kBackend, grad_log_alpha, grad_beta, grad_c, raw, A_log, dt_bias,
                              decay, feedback);
  }
};

template <const GateBackend* kBackend>
void register_gate_operators(torch::Library& m) {
  m.impl("gates", &GateOperators<kBackend>::forward);
  m.impl("gates_backward", &GateOperators<kBackend>::backward);
}

}  // namespace comba::kernels
