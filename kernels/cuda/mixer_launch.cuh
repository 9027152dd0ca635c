// Launchers of one input dtype; instantiated in cuda/instances/.
#pragma once

#include "kernels/cuda/mixer_cuda.h"
#include "kernels/cuda/mixer_output.cuh"
#include "kernels/cuda/mixer_rows.cuh"

#include <type_traits>

namespace comba::kernels::cuda {

// Calls body with the head dimension as a compile-time constant. The operator's checks admit no other.
template <typename Body>
cudaError_t with_row_dim(int64_t dim, const Body& body) {
  switch (dim) {
    case 16:
      return body(std::integral_constant<int, 16>());
    case 32:
      return body(std::integral_constant<int, 32>());
    case 64:
      return body(std::integral_constant<int, 64>());
    case 128:
      return body(std::integral_constant<int, 128>());
    default:
      return cudaErrorInvalidValue;
  }
}

template <int D>
unsigned group_blocks(int64_t groups) {
  return static_cast<unsigned>((groups + LaneGroup<D>::kPerBlock - 1) / LaneGroup<D>::kPerBlock);
}

template <typename T>
cudaError_t MixerLauncher<T>::rows(const MixerRows<float>& p, cudaStream_t stream) {
  return with_row_dim(p.shape.dim, [&](auto dim) {
    const int64_t strips = (p.shape.length + kMixerStrip - 1) / kMixerStrip;
    const dim3 grid(group_blocks<dim()>(p.shape.batch * strips * 3 * p.shape.heads), 2);
    mixer_rows_kernel<T, dim()><<<grid, kMixerThreads, 0, stream>>>(p);
    return cudaGetLastError();
  });
}

template <typename T>
cudaError_t MixerLauncher<T>::rows_backward(const MixerRowGradients<float>& g,
                                            cudaStream_t stream) {
  return with_row_dim(g.forward.shape.dim, [&](auto dim) {
    const unsigned blocks = group_blocks<dim()>(g.partials * 3 * g.forward.shape.heads);
    mixer_rows_backward_kernel<T, dim()><<<blocks, kMixerThreads, 0, stream>>>(g);
    return cudaGetLastError();
  });
}

template <typename T>
cudaError_t MixerLauncher<T>::output(const MixerOutput<float>& p, cudaStream_t stream) {
  return with_row_dim(p.shape.dim, [&](auto dim) {
    const int64_t rows = p.shape.batch * p.shape.length * p.shape.heads;
    mixer_output_kernel<T, dim()><<<group_blocks<dim()>(rows), 128, 0, stream>>>(p);
    return cudaGetLastError();
  });
}

template <typename T>
cudaError_t MixerLauncher<T>::output_backward(const MixerOutputGradients<float>& g,
                                              cudaStream_t stream) {
  return with_row_dim(g.forward.shape.dim, [&](auto dim) {
    mixer_output_backward_kernel<T, dim()>
        <<<group_blocks<dim()>(g.partials), 128, 0, stream>>>(g);
    return cudaGetLastError();
  });
}

}  // namespace comba::kernels::cuda
