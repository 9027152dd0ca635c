// Page-locked memory, which a GPU copies from by itself while the host goes on.
#pragma once

#include <cstdint>
#include <memory>
#include <memory_resource>

#include <c10/core/Device.h>

namespace comba::vision {

// Exactly as many bytes as are asked for: LibTorch's own would round up to a power of two. For few large blocks that live
// long, as each costs milliseconds. Whatever thread asks, no other GPU than `device` is woken.
std::shared_ptr<std::pmr::memory_resource> pinned_memory(const c10::Device& device);

int64_t pinned_bytes();  // held by it now

}  // namespace comba::vision
