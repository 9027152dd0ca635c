// Launchers of one input dtype; instantiated in cuda/instances/.
#pragma once

#include "kernels/cuda/scan_gradients.cuh"
#include "kernels/cuda/scan_walk.cuh"

namespace comba::kernels::cuda {

// Calls body with the head dimension as a compile-time constant. The operators' checks admit no other.
template <typename Body>
cudaError_t with_key_dim(int64_t key_dim, const Body& body) {
  switch (key_dim) {
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

inline dim3 walk_grid(const ScanParams<float>& params, const ScanScratch& scratch) {
  return dim3(static_cast<unsigned>(scratch.count),
              static_cast<unsigned>((params.value_dim + kScanColumns - 1) / kScanColumns));
}

template <typename T>
cudaError_t ScanLauncher<T>::forward(const ScanParams<float>& params,
                                     const ScanOutputs<float>& outputs, const ScanScratch& scratch,
                                     cudaStream_t stream) {
  return with_key_dim(params.key_dim, [&](auto dim) {
    scan_forward_kernel<dim(), T>
        <<<walk_grid(params, scratch), kScanColumns, 0, stream>>>(params, outputs, scratch);
    return cudaGetLastError();
  });
}

template <typename T>
cudaError_t ScanLauncher<T>::reverse(const ScanParams<float>& params,
                                     const ScanGradients<float>& gradients,
                                     const ScanScratch& scratch, cudaStream_t stream) {
  return with_key_dim(params.key_dim, [&](auto dim) {
    scan_reverse_kernel<dim(), T>
        <<<walk_grid(params, scratch), kScanColumns, 0, stream>>>(params, gradients, scratch);
    return cudaGetLastError();
  });
}

template <typename T>
cudaError_t ScanLauncher<T>::gradients(const ScanParams<float>& params,
                                       const ScanGradients<float>& gradients, float* grad_d_partial,
                                       const ScanScratch& scratch, cudaStream_t stream) {
  const size_t bytes =
      gradient_shared_bytes(static_cast<int>(params.key_dim), static_cast<int>(params.value_dim));
  const cudaError_t status =
      cudaFuncSetAttribute(scan_gradients_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(bytes));
  if (status != cudaSuccess) {
    return status;
  }
  const auto blocks = static_cast<unsigned>(scratch.count * scratch.chunks);
  scan_gradients_kernel<T>
      <<<blocks, kGradientThreads, bytes, stream>>>(params, gradients, grad_d_partial, scratch);
  return cudaGetLastError();
}

}  // namespace comba::kernels::cuda
