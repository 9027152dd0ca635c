// The JPEG half of decode.h.
#pragma once

#include "datasets/decode.h"

namespace comba::datasets {

enum class JpegColours { grey, ycbcr, cmyk, other };  // cmyk: YCCK too

struct JpegHeader {
  JpegColours colours = JpegColours::other;
  bool progressive = false, arithmetic = false;
  bool usual_sampling = false;             // chroma at full or half width and height
  std::vector<std::vector<uint8_t>> app1;  // segments; EXIF among them
  int height = 0, width = 0;               // px
};
JpegHeader jpeg_header(std::span<const uint8_t> bytes, const std::string& name);

// See decode_part().
DecodedPart decode_jpeg_part(std::span<const uint8_t> bytes, int channels, const std::string& name,
                             const BoxChoice& choose, int least_side);
// Gives an image's memory to the next JPEG that this thread decodes: fresh pages, cleared, cost more than filling them.
void recycle(Image&& image);
Image decode_jpeg(std::span<const uint8_t> bytes, int channels, const std::string& name);

// JPEGs of kinds that are met but that nothing here needs to make, for made-up data; see encode_jpeg().
enum class JpegKind { baseline, progressive, cmyk };
std::string encode_jpeg(const Image& image, int quality, JpegKind kind);

}  // namespace comba::datasets
