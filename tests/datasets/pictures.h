// Pictures made for the tests, and folders of them.
#pragma once

#include "datasets/image.h"

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include <jpeglib.h>

namespace comba::datasets {

// Smooth colours that differ with `seed`, so that lossy coding keeps them.
Image picture(int height, int width, int channels, int seed = 0);

// Noisy, so that every column and row tells on a wrong one.
Image noisy_picture(int height, int width, int channels);

// A JPEG by libjpeg itself: `settle` changes what its defaults leave to be asked for.
std::string libjpeg_file(const Image& image, J_COLOR_SPACE space,
                         const std::function<void(jpeg_compress_struct&)>& settle);
// 16 x 16 px of one colour with any number of components.
std::string one_colour_jpeg(J_COLOR_SPACE space, std::initializer_list<uint8_t> colour, bool adobe);
// Chroma is subsampled `across` and `down`.
std::string sampled_jpeg(const Image& image, int across, int down);
// Through OpenCV, which writes progressive files and restart marks when asked.
std::string opencv_jpeg(const Image& image, const std::vector<int>& parameters);
// Sets height and width in the frame header of a baseline JPEG.
std::string with_claimed_size(std::string jpeg, int height, int width);
// With an EXIF segment that holds this orientation and nothing else.
std::string with_orientation(const std::string& jpeg, int orientation, bool big_endian);

inline std::span<const uint8_t> as_bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// ROOT/<class>/<number>.png for `classes` classes of `count` pictures each, 12 x 10 px.
void write_class_folders(const std::filesystem::path& root, int classes, int count);

}  // namespace comba::datasets
