// Pillow's operations on the colours and the shape of an image, pixel by pixel; sources and formulas in augment_images.h.
#pragma once

#include "kernels/image/augment_plan.h"

#include <cmath>

namespace comba::kernels::image {

constexpr int kLevels = 256;

COMBA_HOST_DEVICE inline int luminance(const uint8_t* rgb) {  // ITU-R 601-2, 16 bits
  return (rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16;
}

COMBA_HOST_DEVICE inline uint8_t clipped(int value) {
  return static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

COMBA_HOST_DEVICE inline int within(int i, int count) {  // continues the ends of a line
  return i < 0 ? 0 : i < count ? i : count - 1;
}

// From `plain` towards `value`, and beyond; truncated.
COMBA_HOST_DEVICE inline uint8_t blended(int plain, int value, float factor) {
  const float x = static_cast<float>(plain) + factor * static_cast<float>(value - plain);
  return x <= 0.f ? 0 : x >= 255.f ? 255 : static_cast<uint8_t>(x);
}

// Where a pixel's channel counts in the histogram of a task; contrast counts luminance, as the first.
COMBA_HOST_DEVICE inline int level_of(Operation operation, const uint8_t* rgb, int channel) {
  return operation == Operation::contrast ? luminance(rgb) : rgb[channel];
}
COMBA_HOST_DEVICE inline int channels_counted(Operation operation) {
  return operation == Operation::contrast ? 1 : 3;
}

// Stretches the range that has counts to 0..255.
COMBA_HOST_DEVICE inline uint8_t stretched(const uint32_t* counts, int value) {
  int low = 0, high = kLevels - 1;
  while (low < high && counts[low] == 0) {
    ++low;
  }
  while (high > low && counts[high] == 0) {
    --high;
  }
  if (high <= low) {
    return static_cast<uint8_t>(value);
  }
  const double scale = 255.0 / (high - low), offset = -static_cast<double>(low) * scale;
  return clipped(static_cast<int>(value * scale + offset));
}

COMBA_HOST_DEVICE inline uint8_t equalized(const uint32_t* counts, int value) {
  int64_t total = 0, last = 0, below = 0;
  for (int i = 0; i < kLevels; ++i) {
    below = i == value ? total : below;
    total += counts[i];
    last = counts[i] > 0 ? counts[i] : last;
  }
  const int64_t step = (total - last) / 255;
  if (step == 0) {
    return static_cast<uint8_t>(value);
  }
  const int64_t level = (step / 2 + below) / step;
  return static_cast<uint8_t>(level < 255 ? level : 255);
}

COMBA_HOST_DEVICE inline int mean_level(const uint32_t* counts) {
  int64_t sum = 0, total = 0;
  for (int i = 0; i < kLevels; ++i) {
    sum += int64_t{i} * counts[i];
    total += counts[i];
  }
  return static_cast<int>(static_cast<double>(sum) / static_cast<double>(total) + 0.5);
}

// What `value` of a channel becomes; `histogram` [3, 256] of the image, where the operation needs one.
COMBA_HOST_DEVICE inline uint8_t looked_up(const Task& t, const uint32_t* histogram, int channel,
                                           int value) {
  switch (t.operation) {
    case Operation::auto_contrast:
      return stretched(histogram + channel * kLevels, value);
    case Operation::equalize:
      return equalized(histogram + channel * kLevels, value);
    case Operation::contrast:
      return blended(mean_level(histogram), value, t.factor);
    case Operation::invert:
      return static_cast<uint8_t>(255 - value);
    case Operation::posterize:
      return static_cast<uint8_t>(value & (0xff00 >> t.number));
    case Operation::solarize:
      return static_cast<uint8_t>(value < t.number ? value : 255 - value);
    case Operation::solarize_add:
      return value < 128 ? clipped(value + t.number) : static_cast<uint8_t>(value);
    default:  // brightness
      return blended(0, value, t.factor);
  }
}

// The pixel at `at` against 3 x 3 means with five times the centre; the border stays.
COMBA_HOST_DEVICE inline void sharpen(const AugmentBuffers& b, const Task& t, const uint8_t* from,
                                      int y, int x, uint8_t* out) {
  const int64_t pitch = int64_t{3} * b.width;
  const uint8_t* const at = from + y * pitch + int64_t{3} * x;
  const bool inside = x > 0 && y > 0 && x + 1 < b.width && y + 1 < b.height;
  for (int c = 0; c < 3; ++c) {
    int smooth = at[c];
    if (inside) {
      int sum = 4 * at[c];
      for (int dy = -1; dy <= 1; ++dy) {
        const uint8_t* const row = at + dy * pitch + c;
        sum += row[-3] + row[0] + row[3];
      }
      smooth = (2 * sum + 13) / 26;
    }
    out[c] = blended(smooth, at[c], t.factor);
  }
}

// The cubic through four values at -1, 0, 1, 2 with a = -1, at `at` in [0, 1).
COMBA_HOST_DEVICE inline float cubic(float a, float b, float c, float d, float at) {
  return b + at * ((c - a) + at * ((2.f * (a - b) + c - d) + at * (b - a - c + d)));
}

// The input at the place that the task's map gives for the centre of (y, x).
COMBA_HOST_DEVICE inline void warp(const AugmentBuffers& b, const Task& t, const uint8_t* from,
                                   int y, int x, uint8_t* out) {
  const double in_x = t.map[0] * (x + 0.5) + t.map[1] * (y + 0.5) + t.map[2];
  const double in_y = t.map[3] * (x + 0.5) + t.map[4] * (y + 0.5) + t.map[5];
  if (!(in_x >= 0 && in_x < b.width && in_y >= 0 && in_y < b.height)) {
    for (int c = 0; c < 3; ++c) {
      out[c] = b.fill[c];
    }
    return;
  }
  // The cast rounds up below zero, which only -1/2 .. 0 is.
  const int left = static_cast<int>(in_x + 0.5) - 1, top = static_cast<int>(in_y + 0.5) - 1;
  const auto at_x = static_cast<float>(in_x - 0.5 - left);
  const auto at_y = static_cast<float>(in_y - 0.5 - top);
  float lines[4][3];
  for (int i = 0; i < 4; ++i) {
    const uint8_t* const row = from + int64_t{3} * b.width * within(top - 1 + i, b.height);
    for (int c = 0; c < 3; ++c) {
      const auto value = [&](int j) {
        return static_cast<float>(row[3 * within(left - 1 + j, b.width) + c]);
      };
      lines[i][c] = cubic(value(0), value(1), value(2), value(3), at_x);
    }
  }
  for (int c = 0; c < 3; ++c) {
    const float value = cubic(lines[0][c], lines[1][c], lines[2][c], lines[3][c], at_y);
    out[c] = static_cast<uint8_t>(value < 0.f ? 0.f : value > 255.f ? 255.f : value);
  }
}

// Pixel (y, x) of everything but a blur. `lookup` [3, 256], where the operation has one.
COMBA_HOST_DEVICE inline void operate(const AugmentBuffers& b, const Task& t, const uint8_t* lookup,
                                      int y, int x) {
  const uint8_t* const from = b.image(t.from, t.image);
  const int64_t at = (int64_t{y} * b.width + x) * 3;
  uint8_t* const out = b.image(t.to, t.image) + at;
  if (is_looked_up(t.operation)) {
    for (int c = 0; c < 3; ++c) {
      out[c] = lookup[c * kLevels + from[at + c]];
    }
  } else if (t.operation == Operation::affine) {
    warp(b, t, from, y, x, out);
  } else if (t.operation == Operation::sharpness) {
    sharpen(b, t, from, y, x, out);
  } else {  // colour; grayscale is its blend by nothing
    const int grey = luminance(from + at);
    for (int c = 0; c < 3; ++c) {
      out[c] = blended(grey, from[at + c], t.factor);
    }
  }
}

constexpr int kBlurPasses = 6;  // three along the rows, three along the columns

// Pixel (y, x) of one pass: the mean of all within the radius, whose whole part is the task's number, and a share of the
// two beside them; ends continued.
COMBA_HOST_DEVICE inline void blur(const AugmentBuffers& b, const Task& t, int pass, int y, int x) {
  const bool along_row = pass < kBlurPasses / 2;
  const int buffer = (t.from + pass) % 2;
  const int place = along_row ? x : y, count = along_row ? b.width : b.height;
  const int64_t step = along_row ? 3 : int64_t{3} * b.width;
  const int64_t at = (int64_t{y} * b.width + x) * 3;
  const uint8_t* const line = b.image(buffer, t.image) + at - place * step;
  uint8_t* const out = b.image(1 - buffer, t.image) + at;
  const auto value = [&](int i, int c) -> uint32_t { return line[within(i, count) * step + c]; };
  for (int c = 0; c < 3; ++c) {
    uint32_t sum = 0;
    for (int i = place - t.number; i <= place + t.number; ++i) {
      sum += value(i, c);
    }
    const uint32_t edges = value(place - t.number - 1, c) + value(place + t.number + 1, c);
    out[c] = static_cast<uint8_t>((sum * t.weight + edges * t.edge_weight + (1U << 23)) >> 24);
  }
}

}  // namespace comba::kernels::image
