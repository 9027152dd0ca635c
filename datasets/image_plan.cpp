#include "datasets/image_plan.h"

#include "datasets/resample.h"

#include <algorithm>

namespace comba::datasets {
namespace {

void mirror(Image& image) {
  for (int y = 0; y < image.height; ++y) {
    uint8_t* const row = image.row(y);
    for (int left = 0, right = image.width - 1; left < right; ++left, --right) {
      std::swap_ranges(row + left * image.channels, row + (left + 1) * image.channels,
                       row + right * image.channels);
    }
  }
}

}  // namespace

Image carry_out(const PreparedImage& prepared) {
  const ImagePlan& plan = prepared.plan;
  Image out = resample(prepared.part, plan.size, plan.size);
  if (plan.flip) {
    mirror(out);
  }
  for (const AugmentStep& step : plan.steps) {
    augment(out, step);
  }
  return out;
}

}  // namespace comba::datasets
