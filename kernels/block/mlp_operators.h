// The operators comba::mlp and comba::mlp_backward behind their checks. A device's file holds an MlpBackend and registers it
// with TORCH_LIBRARY_IMPL(comba, CPU, m) { register_mlp<&kBackend>(m); }
#pragma once

#include "kernels/optional_tensor.h"

#include <optional>
#include <tuple>

#include <ATen/core/Tensor.h>
#include <torch/library.h>

namespace comba::kernels {

struct MlpProblem {
  at::Tensor x;                               // [rows, d] contiguous
  at::Tensor weight1, bias1, weight2, bias2;  // as given; biases may be undefined
};

// Those of the parameters in at least fp32; undefined where the problem has none.
struct MlpGradients {
  at::Tensor x, weight1, bias1, weight2, bias2;
};

struct MlpBackend {
  at::Tensor (*forward)(const MlpProblem& problem);  // [rows, o]
  // grad_y: [rows, o] contiguous, like x.
  MlpGradients (*backward)(const MlpProblem& problem, const at::Tensor& grad_y);
};

// By LibTorch's operators, for what a device has no kernel of its own for.
at::Tensor compose_mlp(const MlpProblem& problem);
MlpGradients compose_mlp_backward(const MlpProblem& problem, const at::Tensor& grad_y);

at::Tensor run_mlp(const MlpBackend& backend, const at::Tensor& x, const at::Tensor& weight1,
                   const OptionalTensor& bias1, const at::Tensor& weight2,
                   const OptionalTensor& bias2);
// Of x, weight1, bias1, weight2, bias2; that of an absent bias is empty.
using MlpGradientTuple = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
MlpGradientTuple run_mlp_backward(const MlpBackend& backend, const at::Tensor& grad_y,
                                  const at::Tensor& x, const at::Tensor& weight1,
                                  const OptionalTensor& bias1, const at::Tensor& weight2,
                                  const OptionalTensor& bias2);

template <const MlpBackend* kBackend>
struct MlpOperators {
  static at::Tensor forward(const at::Tensor& x, const at::Tensor& weight1,
                            const OptionalTensor& bias1, const at::Tensor& weight2,
                            const OptionalTensor& bias2) {
    return run_mlp(*kBackend, x, weight1, bias1, weight2, bias2);
  }
  static MlpGradientTuple backward(const at::Tensor& grad_y, const at::Tensor& x,
                                   const at::Tensor& weight1, const OptionalTensor& bias1,
                                   const at::Tensor& weight2, const OptionalTensor& bias2) {
    return run_mlp_backward(*kBackend, grad_y, x, weight1, bias1, weight2, bias2);
  }
};

template <const MlpBackend* kBackend>
void register_mlp(torch::Library& m) {
  m.impl("mlp", &MlpOperators<kBackend>::forward);
  m.impl("mlp_backward", &MlpOperators<kBackend>::backward);
}

}  // namespace comba::kernels
