// Launchers of the kernels around the scan, one input dtype each (cuda/instances/mixer_<dtype>.cu).
#pragma once

#include "kernels/mixer_params.h"

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

template <typename T>
struct MixerLauncher {
  // params.shape.taps: kMixerTaps
  static cudaError_t rows(const MixerRows<float>& params, cudaStream_t stream);
  static cudaError_t rows_backward(const MixerRowGradients<float>& params, cudaStream_t stream);
  static cudaError_t output(const MixerOutput<float>& params, cudaStream_t stream);
  static cudaError_t output_backward(const MixerOutputGradients<float>& params,
                                     cudaStream_t stream);
};

}  // namespace comba::kernels::cuda
