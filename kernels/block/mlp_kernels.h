// The launches of comba::mlp: pointers and sizes, no torch.
#pragma once

#include "kernels/block/element_kind.h"
#include "kernels/host_device.h"

#include <cstdint>

#include <cuda_runtime_api.h>

namespace comba::kernels::cuda {

constexpr int kMlpWidth = 192;  // of the tokens; what the kernels are built for
constexpr int kMlpChunk = 64;   // hidden units at a time

// All tensors are contiguous and 16-byte aligned, of the same half-width element.
struct MlpParams {
  const void* x = nullptr;       // [rows, kMlpWidth]
  const void* first = nullptr;   // [hidden, kMlpWidth], units in the order of mlp_unit()
  const void* second = nullptr;  // [kMlpWidth, hidden], likewise
  const float* bias1 = nullptr;  // [hidden] in the units' own order, or null
  const float* bias2 = nullptr;  // [kMlpWidth], or null; forward only
  void* out = nullptr;           // [rows, kMlpWidth]: y or, backward, the gradient of x
  // backward only
  const void* grad_y = nullptr;  // [rows, kMlpWidth]
  void* hidden = nullptr;        // [rows, hidden], units in their own order: GELU(u)
  void* grad_hidden = nullptr;   // the gradient of u
  int64_t rows = 0, units = 0;
};

// Which of 32 neighbouring units stands n-th in the weights: so that a thread's accumulators are eight neighbours.
COMBA_HOST_DEVICE constexpr int mlp_unit(int n) { return n / 2 % 4 * 8 + n / 8 * 2 + n % 2; }

// The weights as the kernels read them; all of them contiguous and 16-byte aligned.
struct MlpWeights {
  const float* first = nullptr;   // [units, kMlpWidth]
  const float* second = nullptr;  // [kMlpWidth, units]
  void* arranged_first = nullptr;
  void* arranged_second = nullptr;
  int64_t units = 0;
};
cudaError_t launch_mlp_arrange(Element element, const MlpWeights& p, cudaStream_t stream);

// sm_90; whole chunks.
bool mlp_takes(int device, Element element, int64_t rows, int64_t width, int64_t units);
cudaError_t launch_mlp(Element element, const MlpParams& p, cudaStream_t stream);
cudaError_t launch_mlp_backward(Element element, const MlpParams& p, cudaStream_t stream);

}  // namespace comba::kernels::cuda
