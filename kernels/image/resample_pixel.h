// Antialiased bicubic resampling as Pillow does it (src/libImaging/Resample.c at 12): Keys' cubic with a = -1/2, stretched
// when an image shrinks, weights of 22 binary digits, columns first, 8 bits between the passes.
#pragma once

#include "kernels/image/augment_plan.h"

#include <cmath>

namespace comba::kernels::image {

constexpr int kWeightBits = 22;

COMBA_HOST_DEVICE inline double cubic_weight(double x) {
  constexpr double kA = -0.5;
  x = fabs(x);
  if (x < 1.0) {
    return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1.0;
  }
  return x < 2.0 ? (((x - 5.0) * x + 8.0) * x - 4.0) * kA : 0.0;
}

// How far an output reaches to either side, in inputs.
COMBA_HOST_DEVICE inline double reach_of(const Axis& axis) {
  return 2.0 * fmax(axis.length / axis.outputs, 1.0);
}

inline Axis make_axis(double start, double length, int outputs) {
  Axis axis{start, length, outputs, 0};
  axis.taps = 2 * static_cast<int32_t>(std::ceil(reach_of(axis))) + 1;
  return axis;
}

// Output `i` of an axis' table.
COMBA_HOST_DEVICE inline void make_weights(const Axis& axis, int i, int32_t* table) {
  const int begin = static_cast<int>(axis.start);
  const int end = static_cast<int>(ceil(axis.start + axis.length));
  const double scale = axis.length / axis.outputs, reach = reach_of(axis);
  const double stretch = fmax(scale, 1.0), centre = axis.start + (i + 0.5) * scale;
  const int low = static_cast<int>(fmax(0.0, centre - reach + 0.5));
  const int high = static_cast<int>(centre + reach + 0.5);
  const int first = low > begin ? low : begin, count = (high < end ? high : end) - first;
  const auto exact = [&](int j) {
    return cubic_weight((j + first - centre + 0.5) * (1.0 / stretch));
  };
  double sum = 0.0;
  for (int j = 0; j < count; ++j) {
    sum += exact(j);
  }
  table[i] = first;
  table[axis.outputs + i] = count;
  int32_t* const weights = table + 2 * int64_t{axis.outputs} + i;
  for (int j = 0; j < count; ++j) {
    const double fixed = exact(j) / sum * (1 << kWeightBits);
    weights[int64_t{j} * axis.outputs] = static_cast<int32_t>(fixed + (fixed < 0.0 ? -0.5 : 0.5));
  }
}

// Output `i` of an axis whose inputs, RGB pixels, lie `pitch` bytes apart.
COMBA_HOST_DEVICE inline void resample(const uint8_t* inputs, int64_t pitch, const int32_t* table,
                                       int outputs, int i, uint8_t* out) {
  const int count = table[outputs + i];
  const uint8_t* from = inputs + table[i] * pitch;
  const int32_t* weight = table + 2 * int64_t{outputs} + i;
  int32_t sum[3] = {1 << (kWeightBits - 1), 1 << (kWeightBits - 1), 1 << (kWeightBits - 1)};
  for (int j = 0; j < count; ++j, from += pitch, weight += outputs) {
    for (int c = 0; c < 3; ++c) {
      sum[c] += from[c] * *weight;
    }
  }
  for (int c = 0; c < 3; ++c) {
    const int32_t value = sum[c] >> kWeightBits;
    out[c] = static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
  }
}

// Pixel x of a line of the box.
COMBA_HOST_DEVICE inline void resize_line(const AugmentBuffers& b, const Source& s, int line,
                                          int x) {
  const uint8_t* const from = b.pixels + s.offset + (int64_t{s.top} + line) * s.width * 3;
  resample(from, 3, b.tables + s.tables[0], b.width, x,
           b.lines + s.line + (int64_t{line} * b.width + x) * 3);
}

// Pixel (y, x) of the lines, at its place in image number `image`.
COMBA_HOST_DEVICE inline void resize_column(const AugmentBuffers& b, const Source& s, int image,
                                            int y, int x) {
  const int to = s.flip != 0 ? b.width - 1 - x : x;
  resample(b.lines + s.line + int64_t{3} * x, int64_t{3} * b.width, b.tables + s.tables[1],
           b.height, y, b.image(s.buffer, image) + (int64_t{y} * b.width + to) * 3);
}

}  // namespace comba::kernels::image
