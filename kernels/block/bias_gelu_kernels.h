// The launches of comba::bias_gelu: pointers and sizes, no torch.
#pragma once

#include "kernels/block/element_kind.h"

#include <cstdint>

#include <cuda_runtime_api.h>

namespace comba::kernels::cuda {

struct BiasGeluParams {
  const void* x = nullptr;       // [rows, width] contiguous, as all others
  const float* bias = nullptr;   // [width], or null
  void* y = nullptr;             // forward only
  const void* grad_y = nullptr;  // backward only, as the following
  void* grad_x = nullptr;
  float* sums = nullptr;  // [partials, width], or null: of the bias's gradient
  int64_t partials = 1;
  int64_t rows = 0, width = 0;
};

cudaError_t launch_bias_gelu(Element element, const BiasGeluParams& p, cudaStream_t stream);
cudaError_t launch_bias_gelu_backward(Element element, const BiasGeluParams& p,
                                      cudaStream_t stream);
// Rows are vectors of 16 bytes.
constexpr bool bias_gelu_takes(Element element, int64_t width) {
  return width % (element == Element::float32 ? 4 : 8) == 0;
}
// Partial sums that fill the current device.
int64_t bias_gelu_partials(Element element, const BiasGeluParams& p);

}  // namespace comba::kernels::cuda
