// Encoded bytes -> pixels. JPEG by libjpeg-turbo; PNG, BMP, WebP, TIFF and PNM by OpenCV's
// imgcodecs, loaded when first needed.
#pragma once

#include "datasets/image.h"
#include "datasets/image_error.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace comba::datasets {

// Larger images are refused before their pixels are allocated.
constexpr int64_t kMaxPixels = int64_t{1} << 28;

struct ImageSize {
  int height = 0, width = 0;  // px
};

// Decodes to `channels` (3 RGB or 1 grey) whatever the file's own colours: CMYK, YCCK, palettes, 16
// bits and transparency are converted. The format is told by content, not by name. Throws
// ImageError naming the image when it is empty, truncated, corrupt, of an unknown format or larger than
// kMaxPixels.
Image decode_image(std::span<const uint8_t> bytes, int channels, const std::string& name);

// The box of an image that is wanted, once its size is known.
using BoxChoice = std::function<ImageBox(int height, int width)>;
// A decoded part and where the wanted box lies in it, px.
struct DecodedPart {
  Image image;
  double y = 0, x = 0, height = 0, width = 0;
};
// Decodes no more than a box needs. A JPEG whose box keeps `least_side` px at half or a quarter of its size is decoded
// at that size; at full size the pixels are those of decode_image(). Errors as there, but damage beyond the box may go
// unseen.
DecodedPart decode_part(std::span<const uint8_t> bytes, int channels, const std::string& name,
                        const BoxChoice& choose, int least_side);

// decode_image() of a file.
Image read_image(const std::filesystem::path& path, int channels);

// PNG bytes of a grey or RGB image.
std::string encode_png(const Image& image);
// JPEG bytes (4:2:0 baseline for RGB) at quality 1..100.
std::string encode_jpeg(const Image& image, int quality);

bool is_jpeg(std::span<const uint8_t> bytes);

}  // namespace comba::datasets
