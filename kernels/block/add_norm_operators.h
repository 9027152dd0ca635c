// The operators comba::add_norm and comba::add_norm_backward behind their checks. A device's file holds an
// AddNormBackend and registers it with TORCH_LIBRARY_IMPL(comba, CPU, m) { register_add_norm<&kBackend>(m); }
#pragma once

#include "kernels/optional_tensor.h"

#include <optional>
#include <tuple>

#include <ATen/core/Tensor.h>
#include <torch/library.h>

namespace comba::kernels {

// The operators' tensors, checked: x and branch as rows [rows, d], contiguous; parameters in the accumulation dtype.
struct AddNormProblem {
  at::Tensor x, branch;     // branch, share, bias may be undefined
  at::Tensor share;         // [B]
  at::Tensor weight, bias;  // [d]
  int64_t rows_a_share = 1;
  double eps = 0;
  bool centred = false;
};

struct AddNormGradients {
  at::Tensor x, branch;     // [rows, d]; no branch: undefined
  at::Tensor weight, bias;  // [d], in the accumulation dtype; bias undefined unless centred
};

struct AddNormBackend {
  // Into y and, with a branch, sum: [rows, d] contiguous.
  void (*forward)(const AddNormProblem& problem, const at::Tensor& sum, const at::Tensor& y);
  // `problem.x` is the sum, its branch undefined. grad_sum may be undefined. Fills in what is defined of `gradients` but the
  // parameters', which it returns there.
  void (*backward)(const AddNormProblem& problem, const at::Tensor& grad_sum,
                   const at::Tensor& grad_y, AddNormGradients& gradients);
};

// By LibTorch's operators, for what a device has no kernel of its own for.
void compose_add_norm(const AddNormProblem& problem, const at::Tensor& sum, const at::Tensor& y);
void compose_add_norm_backward(const AddNormProblem& problem, const at::Tensor& grad_sum,
                               const at::Tensor& grad_y, AddNormGradients& gradients);

using AddNormTuple = std::tuple<at::Tensor, at::Tensor>;  // sum (empty without a branch), y
AddNormTuple run_add_norm(const AddNormBackend& backend, const at::Tensor& x,
                          const OptionalTensor& branch, const OptionalTensor& share,
                          const at::Tensor& weight, const OptionalTensor& bias, double eps,
                          bool centred, std::optional<at::ScalarType> dtype);

// Of x, branch, weight, bias. The branch's is empty where it would be that of x, and where there is no branch.
using AddNormGradientTuple = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
AddNormGradientTuple run_add_norm_backward(const AddNormBackend& backend,
                                           const OptionalTensor& grad_sum, const at::Tensor& grad_y,
                                           const at::Tensor& sum, const OptionalTensor& share,
                                           const at::Tensor& weight, const OptionalTensor& bias,
                                           double eps, bool centred,
                                           std::optional<at::ScalarType> branch_dtype);

template <const AddNormBackend* kBackend>
struct AddNormOperators {
  static AddNormTuple forward(const at::Tensor& x, const OptionalTensor& branch,
                              const OptionalTensor& share, const at::Tensor& weight,
                              const OptionalTensor& bias, double eps, bool centred,
                              std::optional<at::ScalarType> dtype) {
    return run_add_norm(*kBackend, x, branch, share, weight, bias, eps, centred, dtype);
  }
  static AddNormGradientTuple backward(const OptionalTensor& grad_sum, const at::Tensor& grad_y,
                                       const at::Tensor& sum, const OptionalTensor& share,
                                       const at::Tensor& weight, const OptionalTensor& bias,
                                       double eps, bool centred,
                                       std::optional<at::ScalarType> branch_dtype) {
    return run_add_norm_backward(*kBackend, grad_sum, grad_y, sum, share, weight, bias, eps,
                                 centred, branch_dtype);
  }
};

template <const AddNormBackend* kBackend>
void register_add_norm(torch::Library& m) {
  m.impl("add_norm", &AddNormOperators<kBackend>::forward);
  m.impl("add_norm_backward", &AddNormOperators<kBackend>::backward);
}

}  // namespace comba::kernels
