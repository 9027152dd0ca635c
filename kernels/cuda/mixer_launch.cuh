// Launchers of one input dtype; instantiated in cuda/instances/.
#pragma once

#include "kernels/cuda/head_dim.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mixer_cuda.h"
#include "kernels/cuda/mixer_output.cuh"
#include "kernels/cuda/mixer_rows.cuh"
#include "kernels/cuda/tensor_mixer.cuh"

#include <limits>
#include <type_traits>

namespace comba::kernels::cuda {

// Blocks of groups of E channels a lane.
template <int D, int E>
unsigned group_blocks(int64_t groups) {
  constexpr int64_t kPerBlock = LaneGroup<D, E>::kPerBlock;
  return static_cast<unsigned>((groups + kPerBlock - 1) / kPerBlock);
}

// Blocks of the fused mixer: one a multiprocessor, each of one head's batches.
inline int64_t mixer_blocks(const ScanParams<float>& p) {
  int device = 0, processors = 1;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  return p.heads * std::min(p.batch, std::max<int64_t>(1, processors / p.heads));
}

template <typename T>
cudaError_t MixerLauncher<T>::fused(const ScanParams<float>& scan,
                                    const RowConvolution& convolution,
                                    const MixerOutput<float>& output, cudaStream_t stream) {
  if constexpr (std::is_same_v<T, float>) {
    return cudaErrorInvalidConfiguration;
  } else {
    constexpr int D = 64;
    using Memory = MixerMemory<T, D>;
    RowMaps maps{};
    int device = 0, limit = 0, major = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (major != 9 || scan.key_dim != D || scan.value_dim != D || Memory::kBytes > limit ||
        output.gate_time_stride > std::numeric_limits<int>::max() ||
        !encode_rows(maps, scan, D, Memory::kRawTokens)) {
      return cudaErrorInvalidConfiguration;
    }
    TensorMixer<T> mixer{
        {scan, static_cast<T*>(output.merged), /*merged=*/true}, convolution, output};
    return launch_with_memory(tensor_mixer_kernel<T, D>, mixer_blocks(scan),
                              MixerRoles<T, D>::kThreads, Memory::kBytes, stream, mixer, maps);
  }
}

inline bool usual_rows(const MixerRows<float>& p) { return p.silu && p.shape.directions == 2; }

template <typename T>
cudaError_t MixerLauncher<T>::rows(const MixerRows<float>& p, cudaStream_t stream) {
  return with_head_dim(p.shape.dim, [&](auto dim) {
    const TokenLine line = token_line(p.shape, kRowsThreads);
    const dim3 grid(group_blocks<dim(), kRowsChannels>(line.pieces * p.shape.heads), 3);
    const auto kernel =
        usual_rows(p) ? mixer_rows_kernel<T, dim(), true> : mixer_rows_kernel<T, dim(), false>;
    kernel<<<grid, kMixerThreads, 0, stream>>>(p, line, LineSteps(p, line, sizeof(T)));
    return cudaGetLastError();
  });
}

template <typename T>
cudaError_t MixerLauncher<T>::rows_backward(const MixerRowGradients<float>& g,
                                            cudaStream_t stream) {
  const MixerRows<float>& p = g.forward;
  return with_head_dim(p.shape.dim, [&](auto dim) {
    const TokenLine line = token_line(p.shape, kRowsBackwardThreads);
    const dim3 grid(group_blocks<dim(), kRowsChannels>(g.partials * p.shape.heads), 3);
    const auto kernel = usual_rows(p) ? mixer_rows_backward_kernel<T, dim(), true>
                                      : mixer_rows_backward_kernel<T, dim(), false>;
    kernel<<<grid, kMixerThreads, 0, stream>>>(g, line, LineSteps(p, line, sizeof(T)));
    return cudaGetLastError();
  });
}

template <typename T>
cudaError_t MixerLauncher<T>::output(const MixerOutput<float>& p, cudaStream_t stream) {
  return with_head_dim(p.shape.dim, [&](auto dim) {
    const int64_t rows = p.shape.batch * p.shape.length * p.shape.heads;
    const dim3 grid(group_blocks<dim(), kForwardChannels<dim()>>(rows), p.apart ? 2 : 1);
    const auto kernel =
        p.apart ? mixer_output_kernel<T, dim(), true> : mixer_output_kernel<T, dim(), false>;
    kernel<<<grid, kMixerThreads, 0, stream>>>(p);
    return cudaGetLastError();
  });
}

template <typename T>
cudaError_t MixerLauncher<T>::output_backward(const MixerOutputGradients<float>& g,
                                              cudaStream_t stream) {
  return with_head_dim(g.forward.shape.dim, [&](auto dim) {
    const auto kernel = g.forward.apart ? mixer_output_backward_kernel<T, dim(), true>
                                        : mixer_output_backward_kernel<T, dim(), false>;
    kernel<<<group_blocks<dim(), kBackwardChannels>(g.partials), kMixerThreads, 0, stream>>>(g);
    return cudaGetLastError();
  });
}

}  // namespace comba::kernels::cuda
