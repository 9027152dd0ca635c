#include "vision/engine/out_of_memory.h"

#include "vision/base/error.h"
#include "vision/engine/device_memory.h"

#include <algorithm>

#include <c10/util/Exception.h>

namespace comba::vision {
namespace {

constexpr double kUsable = 0.95;  // of what is free: the rest goes into gaps between blocks
constexpr int64_t kCopies = 3;    // of a batch's inputs: in use, the recorded step's, the next one

double gib(int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

int64_t bytes_of(const std::vector<at::Tensor>& batch) {
  int64_t bytes = 0;
  for (const at::Tensor& tensor : batch) {
    bytes += static_cast<int64_t>(tensor.nbytes());
  }
  return bytes;
}

// Bytes that a forward and backward pass of the first images of `batch` takes at its worst moment; nothing if they do not fit.
std::optional<int64_t> try_step(Task& task, const std::vector<at::Tensor>& batch, int64_t images,
                                Precision precision, const c10::Device& device) {
  std::vector<at::Tensor> part;
  for (const at::Tensor& tensor : batch) {
    part.push_back(tensor.narrow(0, 0, images));
  }
  reset_peak_memory(device);
  const int64_t before = device_memory(device).allocated;
  std::optional<int64_t> bytes;
  try {
    at::Tensor loss;
    {
      const AutocastScope autocast(precision);
      loss = task.loss(part);
    }
    loss.backward();
    bytes = device_memory(device).peak_allocated - before;
  } catch (const c10::OutOfMemoryError&) {
  }
  task.model().zero_grad(/*set_to_none=*/true);
  return bytes;
}

std::optional<int64_t> find_fitting(Task& task, Precision precision, const StepSize& size,
                                    const c10::Device& device) {
  std::vector<at::Tensor> batch;
  try {
    task.start_epoch(0, 0);
    batch = task.next_batch();
  } catch (const c10::OutOfMemoryError&) {
    return std::nullopt;  // not even the images
  }
  for (int64_t large = size.images / size.parts / 2; large >= 2; large /= 2) {
    const std::optional<int64_t> large_bytes = try_step(task, batch, large, precision, device);
    if (!large_bytes) {
      continue;
    }
    const int64_t small = large / 2;
    const std::optional<int64_t> small_bytes = try_step(task, batch, small, precision, device);
    if (!small_bytes) {
      return std::nullopt;
    }
    reset_peak_memory(device);
    const DeviceMemory now = device_memory(device);
    const int64_t batch_bytes = bytes_of(batch), image_bytes = batch_bytes / size.images;
    const auto available = static_cast<int64_t>(
        kUsable * static_cast<double>(now.free + now.reserved - now.allocated + batch_bytes));
    return images_that_fit(available, small, *small_bytes + kCopies * image_bytes * small, large,
                           *large_bytes + kCopies * image_bytes * large);
  }
  return std::nullopt;
}

}  // namespace

int64_t images_that_fit(int64_t available, int64_t small, int64_t small_bytes, int64_t large,
                        int64_t large_bytes) {
  const double slope = std::max(
      1.0, static_cast<double>(large_bytes - small_bytes) / static_cast<double>(large - small));
  const double fixed =
      std::max(0.0, static_cast<double>(small_bytes) - slope * static_cast<double>(small));
  return std::max<int64_t>(0,
                           static_cast<int64_t>((static_cast<double>(available) - fixed) / slope));
}

std::string smaller_steps(const StepSize& size, std::optional<int64_t> fitting) {
  if (!fitting || *fitting < 1) {
    return "Set a smaller train.batch_size, a larger train.accumulate, or model.recompute = true";
  }
  constexpr int64_t kRound = 8;
  const int64_t rounded = *fitting >= kRound ? *fitting / kRound * kRound : *fitting;
  int64_t parts = size.parts + 1;
  while (parts < size.images && (size.images % parts != 0 || size.images / parts > *fitting)) {
    ++parts;
  }
  return fmt::format(
      "About {} images at once would: set train.accumulate = {} for the same steps in parts, or "
      "train.batch_size = {}; model.recompute = true needs less memory for more time",
      *fitting, parts, rounded * size.ranks * size.parts);
}

std::string out_of_memory_message(Task& task, Precision precision, const StepSize& size,
                                  const c10::Device& device) {
  const DeviceMemory memory = device_memory(device);
  const int64_t others = memory.total - memory.free - memory.reserved;
  return fmt::format(
      "training: {} images at once do not fit into the memory of {} ({:.1f} GiB, {:.1f} of them "
      "not LibTorch's to "
      "use). {}",
      size.images / size.parts, device.str(), gib(memory.total), gib(others),
      smaller_steps(size, find_fitting(task, precision, size, device)));
}

}  // namespace comba::vision
