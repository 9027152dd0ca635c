// The launches of comba::causal_conv: pointers and sizes, no torch.
#pragma once

#include "kernels/block/element_kind.h"

#include <cstdint>

#include <cuda_runtime_api.h>

namespace comba::kernels::cuda {

constexpr int kConvTaps = 4;
constexpr int kConvBytes = 8;  // of columns, a thread's

struct CausalConvParams {
  const void* x = nullptr;                    // [B, T, channels], last stride 1
  int64_t batch_stride = 0, time_stride = 0;  // elements, of x
  const float* weight = nullptr;              // [channels, kConvTaps]
  const float* bias = nullptr;                // [channels] or null
  void* y = nullptr;             // [B, T, channels] contiguous, as the following; forward only
  const void* grad_y = nullptr;  // backward only, as the following
  void* grad_x = nullptr;
  float* sums = nullptr;  // [partials, kConvTaps + 1, channels]: of the gradients of taps and bias
  int64_t partials = 1;
  int64_t batch = 0, length = 0, channels = 0;
  bool silu = false, reverse = false;
};

// Whether rows are vectors of kConvBytes that may be read at once.
bool causal_conv_takes(Element element, const CausalConvParams& p);
// batch, length and channels are at least 1.
cudaError_t launch_causal_conv(Element element, const CausalConvParams& p, cudaStream_t stream);
cudaError_t launch_causal_conv_backward(Element element, const CausalConvParams& p,
                                        cudaStream_t stream);
// Partial sums that fill the current device.
int64_t causal_conv_partials(Element element, const CausalConvParams& p);

}  // namespace comba::kernels::cuda
