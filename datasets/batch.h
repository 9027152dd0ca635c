// A batch of images in host memory of the caller's choice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

namespace comba::datasets {

// Where the pixels of batches lie, e.g. page-locked for copies to a GPU; null: plain memory.
using BatchMemory = std::shared_ptr<std::pmr::memory_resource>;

// Unlike std::pmr's allocator it keeps its memory resource alive and goes along when vectors are moved or swapped; a copy
// lies in plain memory. Elements that resize() adds have no value yet: clearing what is overwritten would cost a pass.
template <typename T>
class BatchAllocator {
 public:
  using value_type = T;
  using propagate_on_container_move_assignment = std::true_type;
  using propagate_on_container_swap = std::true_type;

  BatchAllocator() = default;
  explicit BatchAllocator(BatchMemory memory) : memory_(std::move(memory)) {}
  template <typename U>
  BatchAllocator(const BatchAllocator<U>& other) : memory_(other.memory()) {}

  T* allocate(size_t count) {
    return static_cast<T*>(resource().allocate(count * sizeof(T), alignof(T)));
  }
  void deallocate(T* pointer, size_t count) noexcept {
    resource().deallocate(pointer, count * sizeof(T), alignof(T));
  }
  template <typename U>
  void construct(U* place) {
    ::new (static_cast<void*>(place)) U;
  }
  BatchAllocator select_on_container_copy_construction() const { return {}; }
  const BatchMemory& memory() const { return memory_; }
  friend bool operator==(const BatchAllocator&, const BatchAllocator&) = default;

 private:
  std::pmr::memory_resource& resource() const {
    return memory_ ? *memory_ : *std::pmr::new_delete_resource();
  }
  BatchMemory memory_;
};

struct Batch {
  int64_t size = 0;
  std::vector<uint8_t, BatchAllocator<uint8_t>> pixels;  // [size, image_size, image_size, channels]
  std::vector<int64_t> labels;                           // [size]
  std::vector<int64_t> indices;                          // [size] positions in the source
  std::vector<int64_t> views;                            // [size] of the repeats of an image
};

// Makes `batch`, which may have been used before, one of `size` images. Its pixels lie in `memory`, in one block that is
// kept from then on: there is room for `most` images from the beginning.
void make_room(Batch& batch, int64_t size, int64_t most, int64_t bytes_per_image,
               const BatchMemory& memory);

}  // namespace comba::datasets
