// Launchers of the kernels around the scan, one input dtype each (cuda/instances/mixer_<dtype>.cu).
#pragma once

#include "kernels/mixer_params.h"

#include <cuda_runtime_api.h>

namespace comba::kernels::cuda {

constexpr int kMixerStrip = 32;  // tokens a group of lanes walks

template <typename T>
struct MixerLauncher {
  static cudaError_t rows(const MixerRows<float>& params, cudaStream_t stream);
  static cudaError_t rows_backward(const MixerRowGradients<float>& params, cudaStream_t stream);
  static cudaError_t output(const MixerOutput<float>& params, cudaStream_t stream);
  static cudaError_t output_backward(const MixerOutputGradients<float>& params,
                                     cudaStream_t stream);
};

}  // namespace comba::kernels::cuda
