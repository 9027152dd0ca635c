#include "vision/engine/pinned_memory.h"

#include "vision/base/error.h"

#include <atomic>

#include <c10/core/DeviceGuard.h>

#ifdef COMBA_CUDA
#include <cuda_runtime_api.h>
#endif

namespace comba::vision {
namespace {

std::atomic<int64_t> held = 0;

class PinnedMemory final : public std::pmr::memory_resource {
 public:
  explicit PinnedMemory(const c10::Device& device) : device_(device) {}

 private:
  void* do_allocate(size_t bytes, size_t /*alignment: whole pages*/) override {
    void* block = nullptr;
#ifdef COMBA_CUDA
    const c10::DeviceGuard guard(device_);
    const cudaError_t status = cudaHostAlloc(&block, bytes, cudaHostAllocPortable);
    COMBA_CHECK(status == cudaSuccess,
                "page-locking {:.0f} MiB of host memory for batches ({:.0f} MiB are locked): {}; "
                "lower train.batch_size, or raise the limit (ulimit -l, a container's memory)",
                static_cast<double>(bytes) / (1 << 20), static_cast<double>(held) / (1 << 20),
                cudaGetErrorString(status));
#else
    COMBA_CHECK(false, "page-locking {} bytes of host memory: this build is without CUDA", bytes);
#endif
    held += static_cast<int64_t>(bytes);
    return block;
  }

  void do_deallocate(void* block, size_t bytes, size_t) override {
#ifdef COMBA_CUDA
    cudaFreeHost(block);  // at the end of the process it may fail, and nothing is left to do
#endif
    held -= static_cast<int64_t>(bytes);
  }

  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }

  c10::Device device_;
};

}  // namespace

std::shared_ptr<std::pmr::memory_resource> pinned_memory(const c10::Device& device) {
  return std::make_shared<PinnedMemory>(device);
}

int64_t pinned_bytes() { return held; }

}  // namespace comba::vision
