// The launches of comba::add_norm: pointers and sizes, no torch.
#pragma once

#include "kernels/block/element_kind.h"

#include <cstdint>

#include <cuda_runtime_api.h>

namespace comba::kernels::cuda {

constexpr int64_t kAddNormWidth = 1536;  // the widest row the kernels take; it has to be even

struct AddNormParams {
  const void* x = nullptr;        // [rows, width] contiguous, as all others
  const void* branch = nullptr;   // or null
  const float* share = nullptr;   // [rows / rows_a_share], or null
  const float* weight = nullptr;  // [width]
  const float* bias = nullptr;    // or null
  void* sum = nullptr;            // null without a branch
  void* y = nullptr;
  int64_t rows = 0, rows_a_share = 1;
  int width = 0;
  float eps = 0;
  bool centred = false;
};

struct AddNormGradientParams {
  AddNormParams forward;           // x is the sum; branch, bias, sum and y are not used
  const void* grad_sum = nullptr;  // like x, or null
  const void* grad_y = nullptr;
  void* grad_x = nullptr;
  void* grad_branch = nullptr;  // like grad_y, or null
  float* sums = nullptr;        // [partials, 2, width]: of the weight's gradient and of the bias's
  int64_t partials = 1;
};

// `x`: of x, sum and their gradients; `y`: of y, the branch and their gradients. What add_norm_takes().
cudaError_t launch_add_norm(Element x, Element y, const AddNormParams& p, cudaStream_t stream);
cudaError_t launch_add_norm_backward(Element x, Element y, const AddNormGradientParams& p,
                                     cudaStream_t stream);
// Both fp32, both of one half-width kind, or rows of fp32 with the others half as wide.
constexpr bool add_norm_takes(Element x, Element y, int64_t width) {
  return (x == y || x == Element::float32) && width % 2 == 0 && width <= kAddNormWidth;
}
// Partial sums that fill the current device.
int64_t add_norm_partials(int64_t rows);

}  // namespace comba::kernels::cuda
