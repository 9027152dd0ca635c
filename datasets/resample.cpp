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

  AxisWeights(int inputs, int outputs, ResampleFilter filter) {
    const bool cubic = filter == ResampleFilter::bicubic;
    const double scale = static_cast<double>(inputs) / outputs;
    const double stretch = std::max(scale, 1.0);  // of the filter, so that every input counts
    const double support = (cubic ? 2.0 : 1.0) * stretch;
    stride = 2 * static_cast<int>(std::ceil(support)) + 1;
    weight.resize(static_cast<size_t>(outputs) * stride);
    first.resize(outputs);
    count.resize(outputs);
    std::vector<double> exact(stride);
    for (int i = 0; i < outputs; ++i) {
      const double centre = (i + 0.5) * scale;
      first[i] = std::max(0, static_cast<int>(centre - support + 0.5));
      count[i] = std::min(inputs, static_cast<int>(centre + support + 0.5)) - first[i];
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

}  // namespace

Image resample(const Image& image, const ImageBox& box, int height, int width,
               ResampleFilter filter) {
  const int channels = image.channels, bytes = width * channels;
  const AxisWeights columns(box.width, width, filter), rows(box.height, height, filter);
  const PixelKernels& kernels = pixel_kernels();
  std::vector<uint8_t> narrow(static_cast<size_t>(box.height) * bytes);
  std::vector<uint8_t> spread(static_cast<size_t>(box.width) * 4 + 4);
  for (int y = 0; y < box.height; ++y) {
    const uint8_t* const from = image.row(box.y + y) + ptrdiff_t{box.x} * channels;
    uint8_t* const to = narrow.data() + static_cast<size_t>(y) * bytes;
    if (width == box.width) {  // all weights are one
      std::memcpy(to, from, bytes);
    } else {
      kernels.resize_row(from, box.width, channels, columns.view(), spread.data(), to);
    }
  }
  Image out{height, width, channels, {}};
  if (height == box.height) {
    out.pixels = std::move(narrow);
    return out;
  }
  out.pixels.resize(static_cast<size_t>(height) * bytes);
  for (int y = 0; y < height; ++y) {
    kernels.resize_column(narrow.data(), bytes, bytes, rows.view(), y, out.row(y));
  }
  return out;
}

}  // namespace comba::datasets
