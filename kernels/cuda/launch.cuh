// Launches of kernels whose blocks ask for more shared memory than every kernel has.
#pragma once

#include <algorithm>

#include <cuda_runtime_api.h>

namespace comba::kernels::cuda {

template <typename Kernel, typename... Arguments>
cudaError_t launch_with_memory(Kernel kernel, int64_t blocks, int threads, size_t bytes,
                               cudaStream_t stream, const Arguments&... arguments) {
  const cudaError_t status = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (status != cudaSuccess) {
    return status;
  }
  kernel<<<static_cast<unsigned>(blocks), threads, bytes, stream>>>(arguments...);
  return cudaGetLastError();
}

// Blocks that run at the same time on the current device; at least one.
template <typename Kernel>
int64_t resident_blocks(Kernel kernel, int threads, size_t bytes) {
  int device = 0, processors = 1, blocks = 1;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                       static_cast<int>(bytes));
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, bytes);
  return std::max(1, processors * blocks);
}

}  // namespace comba::kernels::cuda
