// The operators comba::causal_conv and comba::causal_conv_backward behind their checks. A device's file holds a
// CausalConvBackend and registers it with TORCH_LIBRARY_IMPL(comba, CPU, m) { register_causal_conv<&kBackend>(m); }
#pragma once

#include "kernels/block/causal_conv.h"
#include "kernels/optional_tensor.h"

#include <tuple>

#include <ATen/core/Tensor.h>
#include <torch/library.h>

namespace comba::kernels {

// What both passes read: nothing is empty, the last stride of x is 1.
struct CausalConvProblem {
  at::Tensor x;             // [B, T, C]
  at::Tensor weight, bias;  // [C, taps], [C] or undefined: contiguous, in the accumulation dtype
  CausalConvOptions options;
};

// Of x in its dtype; of the parameters in the accumulation dtype, undefined without a bias.
struct CausalConvGradients {
  at::Tensor x, weight, bias;
};

struct CausalConvBackend {
  at::Tensor (*forward)(const CausalConvProblem& problem);
  CausalConvGradients (*backward)(const CausalConvProblem& problem, const at::Tensor& grad_y);
};

// By LibTorch's operators, for what a device has no kernel of its own for.
at::Tensor compose_causal_conv(const CausalConvProblem& problem);
CausalConvGradients compose_causal_conv_backward(const CausalConvProblem& problem,
                                                 const at::Tensor& grad_y);

at::Tensor run_causal_conv(const CausalConvBackend& backend, const at::Tensor& x,
                           const at::Tensor& weight, const OptionalTensor& bias, bool silu,
                           bool reverse);
// Of x, weight and bias; without a bias its gradient is empty.
using CausalConvGradientTuple = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
CausalConvGradientTuple run_causal_conv_backward(const CausalConvBackend& backend,
                                                 const at::Tensor& grad_y, const at::Tensor& x,
                                                 const at::Tensor& weight,
                                                 const OptionalTensor& bias, bool silu,
                                                 bool reverse);

template <const CausalConvBackend* kBackend>
struct CausalConvOperators {
  static at::Tensor forward(const at::Tensor& x, const at::Tensor& weight,
                            const OptionalTensor& bias, bool silu, bool reverse) {
    return run_causal_conv(*kBackend, x, weight, bias, silu, reverse);
  }
  static CausalConvGradientTuple backward(const at::Tensor& grad_y, const at::Tensor& x,
                                          const at::Tensor& weight, const OptionalTensor& bias,
                                          bool silu, bool reverse) {
    return run_causal_conv_backward(*kBackend, grad_y, x, weight, bias, silu, reverse);
  }
};

template <const CausalConvBackend* kBackend>
void register_causal_conv(torch::Library& m) {
  m.impl("causal_conv", &CausalConvOperators<kBackend>::forward);
  m.impl("causal_conv_backward", &CausalConvOperators<kBackend>::backward);
}

}  // namespace comba::kernels
