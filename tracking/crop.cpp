#include "tracking/crop.h"

#include "vision/base/error.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

namespace comba::tracking {
namespace {

// Where the output's pixels of one axis come from: two of the image's (or none), and the share of the second.
struct Tap {
  int first, second;  // -1: zero
  float share;
};

std::vector<Tap> axis_taps(int origin, int side, int length, int size) {
  // Beyond these the square is zero.
  const int end = int64_t{origin} + side >= length ? length - 1 : length;
  const auto inside = [&](int at) {
    const int64_t pixel = int64_t{origin} + at;
    return pixel >= 0 && pixel < end ? static_cast<int>(pixel) : -1;
  };
  const double step = static_cast<double>(side) / size;
  std::vector<Tap> taps;
  for (int i = 0; i < size; ++i) {
    const double at = std::clamp((i + 0.5) * step - 0.5, 0.0, side - 1.0);
    const int first = static_cast<int>(at);
    taps.push_back(
        {inside(first), inside(std::min(first + 1, side - 1)), static_cast<float>(at - first)});
  }
  return taps;
}

constexpr int kNone = -2;  // no row of an image, not even the zeros beyond it

// One row of the image at the columns' places, zeros where it has none.
void resize_row(const datasets::Image& image, int row, const std::vector<Tap>& columns,
                std::vector<float>& out) {
  if (row < 0) {
    std::fill(out.begin(), out.end(), 0.F);
    return;
  }
  const uint8_t* const line = image.row(row);
  const int channels = image.channels;
  float* to = out.data();
  for (const Tap& column : columns) {
    const uint8_t* const first = line + std::max(column.first, 0) * channels;
    const uint8_t* const second = line + std::max(column.second, 0) * channels;
    const float has_first = column.first < 0 ? 0.F : 1.F,
                has_second = column.second < 0 ? 0.F : 1.F;
    for (int c = 0; c < channels; ++c) {
      const float a = has_first * first[c];
      *to++ = a + column.share * (has_second * second[c] - a);
    }
  }
}

double half_to_even(double x) { return std::nearbyint(x); }  // in the default rounding mode

}  // namespace

std::optional<CropWindow> crop_window(const Box& target, double factor) {
  constexpr int kMost = std::numeric_limits<int>::max() / 4;
  const double side = std::ceil(std::sqrt(target.w * target.h) * factor);
  const double x = half_to_even(target.x + 0.5 * target.w - side * 0.5);
  const double y = half_to_even(target.y + 0.5 * target.h - side * 0.5);
  if (!target.has_area() || !(side >= 1) || !(side < kMost) || !(std::abs(x) < kMost) ||
      !(std::abs(y) < kMost)) {
    return std::nullopt;
  }
  return CropWindow{static_cast<int>(x), static_cast<int>(y), static_cast<int>(side)};
}

bool touches_image(const CropWindow& w, int width, int height) {
  return w.x < width && w.y < height && w.x + w.side > 0 && w.y + w.side > 0;
}

datasets::Image crop_image(const datasets::Image& image, const CropWindow& window, int size) {
  datasets::Image out{size, size, image.channels, {}};
  out.pixels.resize(static_cast<size_t>(std::max(size, 0)) * std::max(size, 0) * image.channels);
  crop_rows(image, window, size, 0, size, out.pixels.data());
  return out;
}

void crop_rows(const datasets::Image& image, const CropWindow& window, int size, int first, int end,
               uint8_t* crop) {
  COMBA_CHECK(size > 0 && window.side > 0,
              "cutting a crop: expected positive sizes, got {} px of a square of {}", size,
              window.side);
  const std::vector<Tap> columns = axis_taps(window.x, window.side, image.width, size);
  const std::vector<Tap> rows = axis_taps(window.y, window.side, image.height, size);
  const auto wide = static_cast<size_t>(size) * image.channels;
  // The two image rows that a row of the crop lies between, already resized; many rows of a crop share them.
  std::vector<float> upper(wide), lower(wide);
  int upper_row = kNone, lower_row = kNone;
  for (int y = first; y < end; ++y) {
    const Tap& row = rows[static_cast<size_t>(y)];
    if (row.first != upper_row && row.first == lower_row) {
      std::swap(upper, lower);
      std::swap(upper_row, lower_row);
    }
    if (row.first != upper_row) {
      resize_row(image, row.first, columns, upper);
      upper_row = row.first;
    }
    if (row.second != lower_row) {
      resize_row(image, row.second, columns, lower);
      lower_row = row.second;
    }
    uint8_t* const target = crop + static_cast<size_t>(y) * wide;
    for (size_t i = 0; i < wide; ++i) {
      target[i] = static_cast<uint8_t>(upper[i] + row.share * (lower[i] - upper[i]) + 0.5F);
    }
  }
}

void fade_outside(datasets::Image& crop, const Box& box, double share) {
  constexpr int kGrey = 128;
  std::array<uint8_t, 256> faded{};
  for (int i = 0; i < 256; ++i) {
    faded[static_cast<size_t>(i)] = static_cast<uint8_t>(std::lround(kGrey + share * (i - kGrey)));
  }
  const auto inside = [](int pixel, double from, double extent) {
    return pixel + 0.5 >= from && pixel + 0.5 < from + extent;
  };
  for (int y = 0; y < crop.height; ++y) {
    uint8_t* const row = crop.row(y);
    const bool across = inside(y, box.y, box.h);
    for (int x = 0; x < crop.width; ++x) {
      if (!across || !inside(x, box.x, box.w)) {
        for (int c = 0; c < crop.channels; ++c) {
          row[x * crop.channels + c] = faded[row[x * crop.channels + c]];
        }
      }
    }
  }
}

Box box_in_crop(const Box& b, const CropWindow& w, int size) {
  const double scale = static_cast<double>(size) / w.side;
  return {(b.x - w.x) * scale, (b.y - w.y) * scale, b.w * scale, b.h * scale};
}
Box box_from_crop(const Box& b, const CropWindow& w, int size) {
  const double scale = static_cast<double>(w.side) / size;
  return {b.x * scale + w.x, b.y * scale + w.y, b.w * scale, b.h * scale};
}

Box clip_box(const Box& b, int width, int height, double margin) {
  const auto axis = [margin](double from, double extent, double length, double& at, double& size) {
    const double low = std::min(std::max(0.0, from), std::max(0.0, length - margin));
    const double high = std::min(std::max(margin, from + extent), length);
    at = low;
    size = std::max(margin, high - low);
  };
  Box out;
  axis(b.x, b.w, width, out.x, out.w);
  axis(b.y, b.h, height, out.y, out.h);
  return out;
}

}  // namespace comba::tracking
