// The gates' kernels (gates.cu): pointers and sizes, no torch. See kernels/gates.h for the formulas.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace comba::kernels::cuda {

// fp32, contiguous but for raw's tokens.
struct GateParams {
  const float* raw = nullptr;                                          // [tokens, 2, R, H]
  int64_t stride = 0;                                                  // of raw's tokens
  const float *A_log = nullptr, *dt_bias = nullptr, *decay = nullptr;  // [R, H]; decay or null
  float feedback = 1;
  int64_t tokens = 0, heads = 0;
  int directions = 1;
};
struct GateOutputs {
  float *log_alpha = nullptr, *beta = nullptr, *c = nullptr;  // [R, tokens, H]
};
struct GateGradients {
  const float *grad_log_alpha = nullptr, *grad_beta = nullptr, *grad_c = nullptr;
  float* grad_raw = nullptr;
  float* sums = nullptr;  // [partials, 3, R, H]: of A_log, dt_bias, decay over some of the tokens
};

// A constant, so that sums have one order on every device.
constexpr int kGatePartials = 264;

cudaError_t launch_gates(const GateParams& params, const GateOutputs& outputs, cudaStream_t stream);
cudaError_t launch_gates_backward(const GateParams& params, const GateGradients& gradients,
                                  cudaStream_t stream);

}  // namespace comba::kernels::cuda
