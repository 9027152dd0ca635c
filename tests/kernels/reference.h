// The oracle: both operators token by token in fp64, plain loops over one head at a time, and the
// gradients of that recurrence derived by hand (checked against finite differences in
// reference_test.cpp). It shares no code and no formula with kernels/: no chunks, no blocks, no
// products of decays.
#pragma once

#include <string>

#include <ATen/core/Tensor.h>

namespace comba::kernels::test {

// Arguments of either operator; undefined tensors are absent. Gates, d and states as in
// kernels/scan.h.
struct ScanInputs {
  at::Tensor q, k, v;             // [B, T, H, D], or [2, B, T, H, D] (bidirectional)
  at::Tensor log_alpha, beta, c;  // [B, T, H], or [2, B, T, H] (bidirectional)
  at::Tensor d;                   // [H], [2, H] (bidirectional) or undefined
  at::Tensor initial_state;       // [B, H, Dk, Dv] or undefined
  double scale = 1;
  bool decayed_feedback = false;
  bool reverse = false;    // scan only
  std::string merge = "";  // bidirectional only; empty for scan
};

struct ScanValues {
  at::Tensor o;            // as the operator's, fp64
  at::Tensor final_state;  // undefined for bidirectional
};

// fp64, in the shapes of the inputs; undefined where the input is.
struct ScanGradients {
  at::Tensor q, k, v, log_alpha, beta, c, d, initial_state;
  // The gradient of d is a sum of B T Dk terms of either sign a head: the root of the sum of their
  // squares is the size its rounding errors are judged by, since the sum itself may be next to
  // nothing.
  double d_size = 0;
};

ScanValues reference_values(const ScanInputs& inputs);

// An undefined gradient of an output stands for an output nobody used.
ScanGradients reference_gradients(const ScanInputs& inputs, const at::Tensor& grad_o,
                                  const at::Tensor& grad_final_state);

}  // namespace comba::kernels::test
