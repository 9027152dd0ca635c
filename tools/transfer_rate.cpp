#include "tools/transfer_rate.h"

#include "kernels/image/nvjpeg.h"
#include "vision/base/parallel.h"
#include "vision/base/stopwatch.h"
#include "vision/engine/pinned_memory.h"
#include "vision/engine/side_stream.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

namespace comba::tools {

TransferRate copy_rate(int64_t batch_bytes, int64_t batch_size, const c10::Device& device,
                       double seconds) {
  const auto memory = vision::pinned_memory(device);
  const auto bytes = static_cast<size_t>(batch_bytes);
  void* const block = memory->allocate(bytes);
  std::memset(block, 1, bytes);
  const at::Tensor from = at::from_blob(block, {batch_bytes}, at::kByte);
  at::Tensor to = at::empty({batch_bytes}, at::TensorOptions(device).dtype(at::kByte));
  const vision::SideStream side(device);
  const auto send = [&] { side.run([&] { to.copy_(from, /*non_blocking=*/true); }); };
  side.follow_current();
  send();
  side.mark().wait();
  int64_t batches = 0;
  const Stopwatch watch;
  vision::StreamMark before;
  while (watch.seconds() < seconds) {
    send();
    vision::StreamMark now = side.mark();
    before.wait();  // one runs while the next waits in the queue
    before = std::move(now);
    ++batches;
  }
  before.wait();
  const double rate = static_cast<double>(batches) / watch.seconds();
  memory->deallocate(block, bytes);
  return {rate * static_cast<double>(batch_size), rate * static_cast<double>(batch_bytes)};
}

NvJpegRate nvjpeg_rate(const datasets::ImageSource& source, int64_t batch_size, int threads,
                       const c10::Device& device, double seconds) {
  std::atomic<int64_t> next = 0, images = 0, decoded = 0;
  std::atomic<double> images_per_second = 0.0;  // of all threads
  std::atomic<int> engines = 0;
  parallel_for(static_cast<size_t>(threads), threads, [&](size_t) {
    kernels::NvJpegDecoder decoder(device);
    engines = decoder.engines();
    const vision::SideStream side(device);
    // Returns how many images of a batch were decoded.
    const auto decode = [&] {
      std::vector<datasets::EncodedSample> samples;
      std::vector<std::span<const uint8_t>> files;
      for (int64_t i = 0; i < batch_size; ++i) {
        samples.push_back(source.read(next++ % source.size()));
      }
      for (const datasets::EncodedSample& sample : samples) {
        files.push_back(sample.bytes);
      }
      kernels::DecodedJpegs batch;
      side.run([&] { batch = decoder.decode(files); });
      return std::count_if(batch.images.begin(), batch.images.end(),
                           [](const kernels::DecodedJpeg& image) { return image.decoded; });
    };
    decode();  // allocates what is kept
    int64_t mine = 0, all = 0;
    const Stopwatch watch;
    while (watch.seconds() < seconds) {
      mine += decode();
      all += batch_size;
    }
    images_per_second += static_cast<double>(mine) / watch.seconds();
    decoded += mine;
    images += all;
  });
  return {images_per_second, static_cast<double>(decoded) / static_cast<double>(images), engines};
}

}  // namespace comba::tools
