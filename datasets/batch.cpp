#include "datasets/batch.h"

namespace comba::datasets {

void make_room(Batch& batch, int64_t size, int64_t most, int64_t bytes_per_image,
               const BatchMemory& memory) {
  if (batch.pixels.get_allocator().memory() != memory) {
    batch.pixels = decltype(batch.pixels)(BatchAllocator<uint8_t>(memory));
  }
  batch.size = size;
  batch.pixels.reserve(static_cast<size_t>(most * bytes_per_image));
  batch.pixels.resize(static_cast<size_t>(size * bytes_per_image));
  batch.labels.resize(static_cast<size_t>(size));
  batch.indices.resize(static_cast<size_t>(size));
  batch.views.resize(static_cast<size_t>(size));
}

}  // namespace comba::datasets
