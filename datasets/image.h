// Decoded images.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace comba::datasets {

// 8-bit pixels, rows top to bottom, channels interleaved (RGB or grey), no padding.
struct Image {
  int height = 0;    // px
  int width = 0;     // px
  int channels = 3;  // 1 or 3
  std::vector<uint8_t> pixels;

  uint8_t* row(int y) { return pixels.data() + static_cast<size_t>(y) * width * channels; }
  const uint8_t* row(int y) const {
    return pixels.data() + static_cast<size_t>(y) * width * channels;
  }
};

// Part of an image.
struct ImageBox {
  int y = 0, x = 0, height = 0, width = 0;  // px
};

}  // namespace comba::datasets
