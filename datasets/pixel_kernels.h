// The loops over pixels that decide how fast images are prepared, once for every instruction set (pixel_kernels_*.cpp are
// the same source). All give the same bytes: nothing is contracted or reordered.
#pragma once

#include <cstddef>
#include <cstdint>

namespace comba::datasets {

// Weights of one axis of a resampling: output i is the sum over j < count[i] of weight[i * stride + j] times input
// first[i] + j. Fixed point with kResampleBits binary digits.
struct ResampleWeights {
  const int32_t* weight;
  const int32_t* first;
  const int32_t* count;
  int stride, outputs;
};
constexpr int kResampleBits = 22;

// x in the input = xx x + xy y + x0, and y likewise, for the centres (x + 1/2, y + 1/2) of output pixels.
struct AffineMap {
  double xx, xy, x0, yx, yy, y0;
};

struct PixelKernels {
  // A row of width * channels bytes -> weights.outputs * channels bytes; `spread`: 4 bytes for every pixel and 4 more.
  void (*resize_row)(const uint8_t* row, int width, int channels, const ResampleWeights& weights,
                     uint8_t* spread, uint8_t* out);
  // Output row `index` of `bytes` bytes from rows `pitch` bytes apart.
  void (*resize_column)(const uint8_t* rows, ptrdiff_t pitch, int bytes,
                        const ResampleWeights& weights, int index, uint8_t* out);
  // Bicubic (a = -1) samples of `source` [height, width] of 4-byte pixels into `out` [height, width, 3]; pixels whose
  // place lies outside are left as they are.
  void (*warp)(const uint8_t* source, int height, int width, const AffineMap& map, uint8_t* out);
};

// Of this machine.
const PixelKernels& pixel_kernels();

}  // namespace comba::datasets
