// A batch of images in host memory of the caller's choice.
#pragma once

#include "datasets/image_plan.h"

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
  // [size] or empty. Of images that are prepared but not finished (LoaderOptions::plans): where each lies among the pixels,
  // which then are bytes in no order, and what is left to do.
  std::vector<PlacedImage> placed;
  int64_t used = 0,
          spare = 0;  // bytes, while the batch is being made; spare: that no image has a right to
};

// Makes `batch`, which may have been used before, one of `size` images. Its pixels lie in `memory`, in one block that is
// kept from then on: there is room for `most` images from the beginning.
void make_room(Batch& batch, int64_t size, int64_t most, int64_t bytes_per_image,
               const BatchMemory& memory);

// Room for `bytes_per_image` on average; every image has a right to its finished size, `least_bytes`.
void make_room_for_plans(Batch& batch, int64_t size, int64_t most, int64_t bytes_per_image,
                         int64_t least_bytes, const BatchMemory& memory);

// Copies an image's pixels to where there is room and returns where. One that needs more than its finished size and all that
// is spare is resized here, which whoever carries out the plan would otherwise do to the same bits. On any thread.
PlacedImage add_pixels(Batch& batch, PreparedImage prepared);

// Copies a JPEG to where there is room and says so in `image`; false if there is none. On any thread.
bool add_encoded(Batch& batch, std::span<const uint8_t> jpeg, PlacedImage& image);

}  // namespace comba::datasets
