// The operators comba::selective_scan and comba::selective_scan_backward behind their checks. A device's file holds a
// SelectiveScanBackend and registers it with TORCH_LIBRARY_IMPL(comba, CPU, m) { register_selective_scan<&kBackend>(m); }
#pragma once

#include "kernels/optional_tensor.h"

#include <optional>
#include <tuple>

#include <ATen/core/Tensor.h>
#include <torch/library.h>

namespace comba::kernels {

// The operators' tensors, checked. Rows keep their dtype and strides but for a last stride of 1; A, D and delta_bias are
// contiguous in the accumulation dtype.
struct SelectiveScanProblem {
  at::Tensor u, delta, B, C, z;  // D, z and delta_bias may be undefined
  at::Tensor A, D, delta_bias;
  bool reverse = false;

  int64_t batch() const { return u.size(0); }
  int64_t length() const { return u.size(1); }
  int64_t channels() const { return u.size(2); }
  int64_t states() const { return A.size(1); }
};

// Contiguous; those of rows in their dtype and given, the others in the accumulation dtype and returned there. Undefined for
// what the problem has not.
struct SelectiveScanGradients {
  at::Tensor u, delta, z;
  at::Tensor A, B, C, D, delta_bias;
};

struct SelectiveScanBackend {
  // Into y: [B, T, C] contiguous.
  void (*forward)(const SelectiveScanProblem& problem, const at::Tensor& y);
  // grad_y: like y.
  void (*backward)(const SelectiveScanProblem& problem, const at::Tensor& grad_y,
                   SelectiveScanGradients& gradients);
};

at::Tensor run_selective_scan(const SelectiveScanBackend& backend, const at::Tensor& u,
                              const at::Tensor& delta, const at::Tensor& A, const at::Tensor& B,
                              const at::Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                              const OptionalTensor& delta_bias, bool reverse);

// In the order of the inputs; empty for what was not given.
using SelectiveScanGradientTuple = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor,
                                              at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
SelectiveScanGradientTuple run_selective_scan_backward(
    const SelectiveScanBackend& backend, const at::Tensor& grad_y, const at::Tensor& u,
    const at::Tensor& delta, const at::Tensor& A, const at::Tensor& B, const at::Tensor& C,
    const OptionalTensor& D, const OptionalTensor& z, const OptionalTensor& delta_bias,
    bool reverse);

template <const SelectiveScanBackend* kBackend>
struct SelectiveScanOperators {
  static at::Tensor forward(const at::Tensor& u, const at::Tensor& delta, const at::Tensor& A,
                            const at::Tensor& B, const at::Tensor& C, const OptionalTensor& D,
                            const OptionalTensor& z, const OptionalTensor& delta_bias,
                            bool reverse) {
    return run_selective_scan(*kBackend, u, delta, A, B, C, D, z, delta_bias, reverse);
  }
  static SelectiveScanGradientTuple backward(const at::Tensor& grad_y, const at::Tensor& u,
                                             const at::Tensor& delta, const at::Tensor& A,
                                             const at::Tensor& B, const at::Tensor& C,
                                             const OptionalTensor& D, const OptionalTensor& z,
                                             const OptionalTensor& delta_bias, bool reverse) {
    return run_selective_scan_backward(*kBackend, grad_y, u, delta, A, B, C, D, z, delta_bias,
                                       reverse);
  }
};

template <const SelectiveScanBackend* kBackend>
void register_selective_scan(torch::Library& m) {
  m.impl("selective_scan", &SelectiveScanOperators<kBackend>::forward);
  m.impl("selective_scan_backward", &SelectiveScanOperators<kBackend>::backward);
}

}  // namespace comba::kernels
