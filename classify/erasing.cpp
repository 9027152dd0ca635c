#include "classify/erasing.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

namespace comba::classify {

// All boxes are filled in host memory, a sample a thread, and travel to the images' device at once.
void erase_(at::Tensor& images, const datasets::EraseOptions& options,
            const std::vector<datasets::SampleKey>& keys) {
  const auto channels = static_cast<int>(images.size(1)), side = static_cast<int>(images.size(2));
  std::vector<std::vector<datasets::ImageBox>> boxes;
  std::vector<int64_t> first;  // element of a sample among the values
  int64_t elements = 0;
  for (const datasets::SampleKey& key : keys) {
    boxes.push_back(draw_erasing(options, side, key));
    first.push_back(elements);
    for (const datasets::ImageBox& box : boxes.back()) {
      elements += int64_t{channels} * box.height * box.width;
    }
  }
  if (elements == 0) {
    return;
  }
  const auto kind = at::TensorOptions().dtype(at::kFloat).pinned_memory(images.is_cuda());
  at::Tensor values = at::empty({elements}, kind);
  auto* const all = values.mutable_data_ptr<float>();
  at::parallel_for(0, static_cast<int64_t>(keys.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* out = all + first[i];
      for (size_t n = 0; n < boxes[i].size(); ++n) {
        out = fill_erased(options.mode, boxes[i][n], static_cast<int>(n), side, channels, keys[i],
                          out);
      }
    }
  });
  values = values.to(images.device(), /*non_blocking=*/true);
  int64_t at = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    for (const datasets::ImageBox& box : boxes[i]) {
      const int64_t count = int64_t{channels} * box.height * box.width;
      images.select(0, static_cast<int64_t>(i))
          .narrow(1, box.y, box.height)
          .narrow(2, box.x, box.width)
          .copy_(values.narrow(0, at, count).view({channels, box.height, box.width}));
      at += count;
    }
  }
}

}  // namespace comba::classify
