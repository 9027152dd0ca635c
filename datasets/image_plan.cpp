#include "datasets/image_plan.h"

#include "datasets/resample.h"

#include <algorithm>
#include <cmath>

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
  Image out = resample(prepared.part, plan.height, plan.width);
  if (plan.flip) {
    mirror(out);
  }
  for (const AugmentStep& step : plan.steps) {
    augment(out, step);
  }
  return out;
}

PlacedImage place(const PreparedImage& prepared, int64_t offset) {
  const DecodedPart& part = prepared.part;
  const double top = std::floor(part.y);
  const int lines = static_cast<int>(std::ceil(part.y + part.height) - top);
  return {offset, lines,       part.image.width, part.y - top,
          part.x, part.height, part.width,       prepared.plan};
}

int64_t bytes_of(const PlacedImage& placed, int channels) {
  return int64_t{placed.height} * placed.width * channels;
}

void copy_rows(const PreparedImage& prepared, const PlacedImage& placed, uint8_t* first) {
  const Image& image = prepared.part.image;
  std::copy_n(image.row(static_cast<int>(prepared.part.y)), bytes_of(placed, image.channels),
              first);
}

}  // namespace comba::datasets
