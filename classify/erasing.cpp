#include "classify/erasing.h"

#include <ATen/ops/empty.h>

namespace comba::classify {

// All boxes are filled in host memory and travel to the images' device at once.
void erase_(at::Tensor& images, const datasets::EraseOptions& options,
            const std::vector<datasets::SampleKey>& keys) {
  const auto channels = static_cast<int>(images.size(1)), side = static_cast<int>(images.size(2));
  std::vector<std::vector<datasets::ImageBox>> boxes;
  int64_t elements = 0;
  for (const datasets::SampleKey& key : keys) {
    boxes.push_back(draw_erasing(options, side, key));
    for (const datasets::ImageBox& box : boxes.back()) {
      elements += int64_t{channels} * box.height * box.width;
    }
  }
  if (elements == 0) {
    return;
  }
  const auto kind = at::TensorOptions().dtype(at::kFloat).pinned_memory(images.is_cuda());
  at::Tensor values = at::empty({elements}, kind);
  auto* out = values.mutable_data_ptr<float>();
  for (size_t i = 0; i < keys.size(); ++i) {
    for (size_t n = 0; n < boxes[i].size(); ++n) {
      out =
          fill_erased(options.mode, boxes[i][n], static_cast<int>(n), side, channels, keys[i], out);
    }
  }
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
