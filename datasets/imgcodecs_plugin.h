// The interface of libcomba_imgcodecs.so, which alone links OpenCV's imgcodecs and its many dependencies.
#pragma once

#include "datasets/image.h"

#include <cstdint>
#include <string>

namespace comba::datasets {

struct ImgcodecsPlugin {
  // Decodes to 1 or 3 (RGB) channels of 8 bits; returns "" or what went wrong.
  std::string (*decode)(std::span<const uint8_t> bytes, int channels, Image& image);
  // PNG bytes into `out`; returns "" or what went wrong.
  std::string (*encode_png)(const Image& image, std::string& out);
};

extern "C" const ImgcodecsPlugin* comba_imgcodecs_plugin();

}  // namespace comba::datasets
