#include "datasets/resample.h"

#include "datasets/pixel_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace comba::datasets {
namespace {

double triangle(double x) { return std::max(0.0, 1.0 - std::abs(x)); }

double keys_cubic(double x) {
  constexpr double kA = -0.5;
  x = std::abs(x);
  if (x < 1.0) {
    return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1.0;
  }
  return x < 2.0 ? (((x - 5.0) * x + 8.0) * x - 4.0) * kA : 0.0;
}

struct AxisWeights {
  std::vector<int32_t> weight, first, count;
  int stride;

  // `start` and `length` in inputs.
  AxisWeights(double start, double length, int outputs, ResampleFilter filter) {
    const bool cubic = filter == ResampleFilter::bicubic;
    const auto begin = static_cast<int>(start), end = static_cast<int>(std::ceil(start + length));
    const double scale = length / outputs;
    const double stretch = std::max(scale, 1.0);  // of the filter, so that every input counts
    const double support = (cubic ? 2.0 : 1.0) * stretch;
    stride = 2 * static_cast<int>(std::ceil(support)) + 1;
    weight.resize(static_cast<size_t>(outputs) * stride);
    first.resize(outputs);
    count.resize(outputs);
    std::vector<double> exact(stride);
    for (int i = 0; i < outputs; ++i) {
      const double centre = start + (i + 0.5) * scale;
      first[i] = std::max(begin, static_cast<int>(std::max(0.0, centre - support + 0.5)));
      count[i] = std::min(end, static_cast<int>(centre + support + 0.5)) - first[i];
      double sum = 0.0;
      for (int j = 0; j < count[i]; ++j) {
        const double x = (j + first[i] - centre + 0.5) * (1.0 / stretch);
        exact[j] = cubic ? keys_cubic(x) : triangle(x);
        sum += exact[j];
      }
      for (int j = 0; j < count[i]; ++j) {
        const double fixed = exact[j] / sum * (1 << kResampleBits);
        weight[static_cast<size_t>(i) * stride + j] =
            static_cast<int32_t>(fixed + (fixed < 0.0 ? -0.5 : 0.5));
      }
    }
  }
  ResampleWeights view() const {
    return {weight.data(), first.data(), count.data(), stride, static_cast<int>(count.size())};
  }
};

struct RealBox {
  double y, x, height, width;  // px

  bool whole_rows() const { return y == std::floor(y) && height == std::floor(height); }
  bool whole_columns() const { return x == std::floor(x) && width == std::floor(width); }
};

Image resample_box(const Image& image, const RealBox& box, int height, int width,
                   ResampleFilter filter) {
  const int channels = image.channels, bytes = width * channels;
  const auto top = static_cast<int>(box.y);
  const int lines = static_cast<int>(std::ceil(box.y + box.height)) - top;
  const AxisWeights columns(box.x, box.width, width, filter);
  const AxisWeights rows(box.y - top, box.height, height, filter);
  const PixelKernels& kernels = pixel_kernels();
  std::vector<uint8_t> narrow(static_cast<size_t>(lines) * bytes);
  std::vector<uint8_t> spread(static_cast<size_t>(image.width) * 4 + 4);
  for (int y = 0; y < lines; ++y) {
    const uint8_t* const from = image.row(top + y);
    uint8_t* const to = narrow.data() + static_cast<size_t>(y) * bytes;
    if (width == box.width && box.whole_columns()) {  // all weights are one
      std::memcpy(to, from + static_cast<ptrdiff_t>(box.x) * channels, bytes);
    } else {
      kernels.resize_row(from, image.width, channels, columns.view(), spread.data(), to);
    }
  }
  Image out{height, width, channels, {}};
  if (height == box.height && box.whole_rows()) {
    out.pixels = std::move(narrow);
    return out;
  }
  out.pixels.resize(static_cast<size_t>(height) * bytes);
  for (int y = 0; y < height; ++y) {
    kernels.resize_column(narrow.data(), bytes, bytes, rows.view(), y, out.row(y));
  }
  return out;
}

}  // namespace

Image resample(const Image& image, const ImageBox& box, int height, int width,
               ResampleFilter filter) {
  return resample_box(image, {double(box.y), double(box.x), double(box.height), double(box.width)},
                      height, width, filter);
}

Image resample(const DecodedPart& part, int height, int width, ResampleFilter filter) {
  return resample_box(part.image, {part.y, part.x, part.height, part.width}, height, width, filter);
}

}  // namespace comba::datasets
