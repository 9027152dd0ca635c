// The launches of comba::selective_scan: pointers and sizes, no torch.
#pragma once

#include "kernels/block/element_kind.h"
#include "kernels/host_device.h"

#include <cstdint>

#include <cuda_runtime_api.h>

namespace comba::kernels::cuda {

constexpr int kScanStates = 16;
constexpr int kScanChannels = 32;  // of a block: one warp's lanes
constexpr int kScanSteps = 6;      // tokens whose rows are in shared memory together

// [B, T, columns] with a last stride of 1.
struct TokenRows {
  const void* data = nullptr;
  int64_t batch_stride = 0, time_stride = 0;  // elements
};

struct SelectiveScanParams {
  TokenRows u, delta, z;              // columns: channels; z.data may be null
  TokenRows B, C;                     // columns: kScanStates
  const float* A = nullptr;           // [channels, kScanStates]
  const float* D = nullptr;           // [channels] or null
  const float* delta_bias = nullptr;  // [channels] or null
  void* y = nullptr;                  // [B, T, channels] contiguous
  int64_t batch = 0, length = 0, channels = 0;
  bool reverse = false;

  COMBA_HOST_DEVICE int64_t channel_blocks() const {
    return (channels + kScanChannels - 1) / kScanChannels;
  }
  COMBA_HOST_DEVICE int64_t chunks() const { return (length + kScanSteps - 1) / kScanSteps; }
};

struct SelectiveScanGradientParams {
  SelectiveScanParams forward;   // y is not used
  const void* grad_y = nullptr;  // [B, T, channels] contiguous, as
  void *grad_u = nullptr, *grad_delta = nullptr, *grad_z = nullptr;  // these; grad_z may be null
  float* states =
      nullptr;  // [B, chunks, kScanStates, channels]: scratch, the states each chunk begins with
  float* write_read =
      nullptr;  // [channel_blocks, B, T, 2 kScanStates]: parts of the gradients of B and of C
  float* rates = nullptr;    // [B, kScanStates, channels]: parts of that of A
  float* scalars = nullptr;  // [B, 2, channels]: parts of those of D and of delta_bias
};

// `element`: of rows. batch, length and channels are at least 1.
cudaError_t launch_selective_scan(Element element, const SelectiveScanParams& p,
                                  cudaStream_t stream);
cudaError_t launch_selective_scan_backward(Element element, const SelectiveScanGradientParams& p,
                                           cudaStream_t stream);

}  // namespace comba::kernels::cuda
