#include "datasets/batch.h"

#include "datasets/jpeg.h"
#include "datasets/resample.h"

#include <algorithm>
#include <atomic>
#include <utility>

namespace comba::datasets {
namespace {

// False, and takes nothing, if less is left; a negative number of bytes is given back.
bool take(int64_t& spare, int64_t bytes) {
  const std::atomic_ref<int64_t> left(spare);
  int64_t now = left;
  do {
    if (bytes > now) {
      return false;
    }
  } while (!left.compare_exchange_weak(now, now - bytes));
  return true;
}

}  // namespace

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
  batch.placed.clear();
}

void make_room_for_plans(Batch& batch, int64_t size, int64_t most, int64_t bytes_per_image,
                         int64_t least_bytes, const BatchMemory& memory) {
  make_room(batch, size, most, bytes_per_image, memory);
  batch.placed.assign(static_cast<size_t>(size), {});
  batch.used = 0;
  batch.spare = size * (bytes_per_image - least_bytes);
}

PlacedImage add_pixels(Batch& batch, PreparedImage prepared) {
  const int channels = prepared.part.image.channels;
  const int height = prepared.plan.height, width = prepared.plan.width;
  const int64_t finished = int64_t{height} * width * channels;
  PlacedImage placed = place(prepared, 0);
  if (!take(batch.spare, bytes_of(placed, channels) - finished)) {
    Image resized = resample(prepared.part, height, width);
    recycle(std::move(prepared.part.image));
    prepared.part = {std::move(resized), 0, 0, double(height), double(width)};
    placed = place(prepared, 0);
  }
  placed.offset = std::atomic_ref<int64_t>(batch.used).fetch_add(bytes_of(placed, channels));
  copy_rows(prepared, placed, batch.pixels.data() + placed.offset);
  recycle(std::move(prepared.part.image));
  return placed;
}

bool add_encoded(Batch& batch, std::span<const uint8_t> jpeg, PlacedImage& image) {
  constexpr int kChannels = 3;  // others have no plans
  const auto bytes = static_cast<int64_t>(jpeg.size());
  if (!take(batch.spare, bytes - int64_t{image.plan.height} * image.plan.width * kChannels)) {
    return false;
  }
  image.encoded = bytes;
  image.offset = std::atomic_ref<int64_t>(batch.used).fetch_add(bytes);
  std::copy(jpeg.begin(), jpeg.end(), batch.pixels.data() + image.offset);
  return true;
}

}  // namespace comba::datasets
