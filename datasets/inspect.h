// What an image file is, from its headers alone.
#pragma once

#include "datasets/image_error.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace comba::datasets {

enum class ImageFormat { unknown, jpeg, png, bmp, webp, tiff, pnm };

// By content, not by name.
ImageFormat image_format(std::span<const uint8_t> bytes);

struct ImageFacts {
  ImageFormat format = ImageFormat::unknown;
  bool grey = false, cmyk = false, progressive = false;  // of JPEGs; grey also of PNGs
  bool deep = false;                                     // a PNG of more than 8 bits
  int orientation =
      1;  // EXIF's, of JPEGs; 1: as stored. It is applied nowhere here, as Pillow does on opening.
  // What every decoder takes, those in hardware too: a sequential Huffman-coded JPEG of 8-bit YCbCr, chroma at full or half
  // width and height.
  bool plain_jpeg = false;
};

// Throws ImageError naming the image when a JPEG's header cannot be read; of other formats nothing is verified.
ImageFacts inspect_image(std::span<const uint8_t> bytes, const std::string& name);

// What is unusual about a file, in words for counting: "grey", "CMYK", "progressive", "not JPEG", "wrong extension", ...
std::vector<std::string> peculiarities(const ImageFacts& facts, const std::string& path);

}  // namespace comba::datasets
