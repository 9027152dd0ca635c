// Launchers of the kernels around the scan, one input dtype each (cuda/instances/mixer_<dtype>.cu).
#pragma once

#include "kernels/mixer_params.h"
#include "kernels/scan_params.h"

#include <cuda_runtime_api.h>

namespace comba::kernels::cuda {

// The kernels are built for four taps; fewer are padded with leading zeros.
constexpr int64_t kMixerTaps = 4;

// How a sequence is shared among groups of lanes: equal strips of a multiple of 4 and at most `about` tokens.
struct Strips {
  int count = 1, size = 4;

  Strips(int64_t length, int about)
      : count(static_cast<int>((length + about - 1) / about)),
        size(count == 0 ? 4 : static_cast<int>((length + 4 * count - 1) / (4 * count) * 4)) {}
};
// Long strips read fewer tokens twice, short ones make more groups.
constexpr int kRowsStrip = 64;

// What makes q, k and v of raw projections (mixer.h).
struct RowConvolution {
  const float* taps = nullptr;  // [2, 3, H, D, 4]
  bool normalize = true;        // q and k
};

template <typename T>
struct MixerLauncher {
  // Everything at once (tensor_mixer.cuh). `scan`: of raw q, k and v, shared by both directions, scale times the output's
  // factor. cudaErrorInvalidConfiguration: the device, the shape or the strides are not those it is made for.
  static cudaError_t fused(const ScanParams<float>& scan, const RowConvolution& convolution,
                           const MixerOutput<float>& output, cudaStream_t stream);
  // params.shape.taps: kMixerTaps
  static cudaError_t rows(const MixerRows<float>& params, cudaStream_t stream);
  static cudaError_t rows_backward(const MixerRowGradients<float>& params, cudaStream_t stream);
  static cudaError_t output(const MixerOutput<float>& params, cudaStream_t stream);
  static cudaError_t output_backward(const MixerOutputGradients<float>& params,
                                     cudaStream_t stream);
};

}  // namespace comba::kernels::cuda
