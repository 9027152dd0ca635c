// Launchers of one input dtype; instantiated in cuda/instances/.
#pragma once

#include "kernels/cuda/head_dim.h"
#include "kernels/cuda/mixer_cuda.h"
#include "kernels/cuda/mixer_output.cuh"
#include "kernels/cuda/mixer_rows.cuh"

namespace comba::kernels::cuda {

// Blocks of groups of E channels a lane.
template <int D, int E>
unsigned group_blocks(int64_t groups) {
  constexpr int64_t kPerBlock = LaneGroup<D, E>::kPerBlock;
  return static_cast<unsigned>((groups + kPerBlock - 1) / kPerBlock);
}

template <typename T>
cudaError_t MixerLauncher<T>::rows(const MixerRows<float>& p, cudaStream_t stream) {
  return with_head_dim(p.shape.dim, [&](auto dim) {
    const Strips strips(p.shape.length + kMixerTaps - 1, kRowsStrip);
    const int64_t groups = p.shape.batch * strips.count * p.shape.heads;
    const dim3 grid(group_blocks<dim(), kRowsChannels>(groups), 3);
    mixer_rows_kernel<T, dim()><<<grid, kMixerThreads, 0, stream>>>(p, strips);
    return cudaGetLastError();
  });
}

template <typename T>
cudaError_t MixerLauncher<T>::rows_backward(const MixerRowGradients<float>& g,
                                            cudaStream_t stream) {
  return with_head_dim(g.forward.shape.dim, [&](auto dim) {
    const dim3 grid(group_blocks<dim(), kRowsChannels>(g.partials * g.forward.shape.heads), 3);
    mixer_rows_backward_kernel<T, dim()>
        <<<grid, kMixerThreads, 0, stream>>>(g, Strips(g.forward.shape.length, kRowsStrip));
    return cudaGetLastError();
  });
}

template <typename T>
cudaError_t MixerLauncher<T>::output(const MixerOutput<float>& p, cudaStream_t stream) {
  return with_head_dim(p.shape.dim, [&](auto dim) {
    const int64_t rows = p.shape.batch * p.shape.length * p.shape.heads;
    mixer_output_kernel<T, dim()>
        <<<group_blocks<dim(), kForwardChannels<dim()>>(rows), kMixerThreads, 0, stream>>>(p);
    return cudaGetLastError();
  });
}

template <typename T>
cudaError_t MixerLauncher<T>::output_backward(const MixerOutputGradients<float>& g,
                                              cudaStream_t stream) {
  return with_head_dim(g.forward.shape.dim, [&](auto dim) {
    mixer_output_backward_kernel<T, dim()>
        <<<group_blocks<dim(), kBackwardChannels>(g.partials), kMixerThreads, 0, stream>>>(g);
    return cudaGetLastError();
  });
}

}  // namespace comba::kernels::cuda
