// What LibTorch's allocator has of a GPU's memory. On the CPU all figures are 0.
#pragma once

#include <cstdint>

#include <c10/core/Device.h>

namespace comba::vision {

struct DeviceMemory {
  int64_t allocated = 0;  // bytes of tensors
  int64_t peak_allocated =
      0;  // at the worst moment since reset_peak_memory(), as torch.cuda.max_memory_allocated()
  int64_t reserved =
      0;  // bytes taken from the device, those kept for later and of CUDA graphs among them
  int64_t free = 0;   // of the device, as far as the allocator's limit allows it to be taken
  int64_t total = 0;  // of the device, whoever uses it
};

DeviceMemory device_memory(const c10::Device& device);

// Gives back what is reserved and not in use, and begins a new peak.
void reset_peak_memory(const c10::Device& device);

}  // namespace comba::vision
