#include "vision/engine/device_memory.h"

#ifdef COMBA_CUDA
#include <algorithm>

#include <ATen/Context.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>
#endif

namespace comba::vision {

DeviceMemory device_memory([[maybe_unused]] const c10::Device& device) {
  DeviceMemory memory;
#ifdef COMBA_CUDA
  if (device.is_cuda()) {
    at::globalContext().lazyInitDevice(at::kCUDA);  // or the allocator knows no device yet
    const c10::cuda::CUDAGuard guard(device);
    const auto stats =
        c10::cuda::CUDACachingAllocator::getDeviceStats(guard.current_device().index());
    memory.allocated = stats.allocated_bytes[0].current;
    memory.peak_allocated = stats.allocated_bytes[0].peak;
    memory.reserved = stats.reserved_bytes[0].current;
    size_t free = 0, total = 0;
    C10_CUDA_CHECK(cudaMemGetInfo(&free, &total));
    memory.total = static_cast<int64_t>(total);
    const double share =
        c10::cuda::CUDACachingAllocator::getMemoryFraction(guard.current_device().index());
    const auto limit = static_cast<int64_t>(share * static_cast<double>(total));
    memory.free = std::clamp<int64_t>(limit - memory.reserved, 0, static_cast<int64_t>(free));
  }
#endif
  return memory;
}

void reset_peak_memory([[maybe_unused]] const c10::Device& device) {
#ifdef COMBA_CUDA
  if (device.is_cuda()) {
    at::globalContext().lazyInitDevice(at::kCUDA);
    const c10::cuda::CUDAGuard guard(device);
    c10::cuda::CUDACachingAllocator::emptyCache();
    c10::cuda::CUDACachingAllocator::resetPeakStats(guard.current_device().index());
  }
#endif
}

}  // namespace comba::vision
