// The operators comba::bias_gelu and comba::bias_gelu_backward behind their checks. A device's file holds a
// BiasGeluBackend and registers it with TORCH_LIBRARY_IMPL(comba, CPU, m) { register_bias_gelu<&kBackend>(m); }
#pragma once

#include "kernels/optional_tensor.h"

#include <optional>
#include <tuple>

#include <ATen/core/Tensor.h>
#include <torch/library.h>

namespace comba::kernels {

struct BiasGeluBackend {
  // x: [rows, f] contiguous; bias: [f] in the accumulation dtype or undefined.
  void (*forward)(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& y);
  // Into grad_x; returns the bias's gradient in the accumulation dtype, undefined without a bias.
  at::Tensor (*backward)(const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor& bias,
                         const at::Tensor& grad_x);
};

// By LibTorch's operators, for what a device has no kernel of its own for.
void compose_bias_gelu(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& y);
at::Tensor compose_bias_gelu_backward(const at::Tensor& grad_y, const at::Tensor& x,
                                      const at::Tensor& bias, const at::Tensor& grad_x);

at::Tensor run_bias_gelu(const BiasGeluBackend& backend, const at::Tensor& x,
                         const OptionalTensor& bias);
// Of x and bias; without a bias its gradient is empty.
using BiasGeluGradients = std::tuple<at::Tensor, at::Tensor>;
BiasGeluGradients run_bias_gelu_backward(const BiasGeluBackend& backend, const at::Tensor& grad_y,
                                         const at::Tensor& x, const OptionalTensor& bias);

template <const BiasGeluBackend* kBackend>
struct BiasGeluOperators {
  static at::Tensor forward(const at::Tensor& x, const OptionalTensor& bias) {
    return run_bias_gelu(*kBackend, x, bias);
  }
  static BiasGeluGradients backward(const at::Tensor& grad_y, const at::Tensor& x,
                                    const OptionalTensor& bias) {
    return run_bias_gelu_backward(*kBackend, grad_y, x, bias);
  }
};

template <const BiasGeluBackend* kBackend>
void register_bias_gelu(torch::Library& m) {
  m.impl("bias_gelu", &BiasGeluOperators<kBackend>::forward);
  m.impl("bias_gelu_backward", &BiasGeluOperators<kBackend>::backward);
}

}  // namespace comba::kernels
