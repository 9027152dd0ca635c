// The gates of the scan from raw projections, as one operator. Per direction r and head, with A the decay rate's logarithm:
//
//   log_alpha = -exp(A_log) softplus(a + dt_bias)
//   beta = sigmoid(b)
//   c = feedback beta sigmoid(decay)             without `decay`: feedback beta
//
// All of it in fp32 (fp64 for fp64 inputs). First-order gradients of every tensor, deterministic.
#pragma once

#include <ATen/core/Tensor.h>

namespace comba::kernels {

struct GateInputs {
  at::Tensor raw;      // [B, T, 2, R, H] floating: a of the R directions, then b; R = 1 or 2
  at::Tensor A_log;    // [R, H]
  at::Tensor dt_bias;  // [R, H]
  at::Tensor decay;    // [R, H] or undefined
  double feedback = 1;
};

struct ScanGates {
  at::Tensor log_alpha, beta, c;  // [R, B, T, H], fp32 or fp64: what kernels/scan.h takes
};

// Throws c10::Error naming the argument, what was expected and what was found.
ScanGates gates(const GateInputs& inputs);

}  // namespace comba::kernels
