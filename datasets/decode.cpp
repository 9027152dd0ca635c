#include "datasets/decode.h"

#include "datasets/imgcodecs_plugin.h"
#include "datasets/inspect.h"
#include "datasets/jpeg.h"
#include "datasets/plugin.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

#include <cstring>
#include <optional>

namespace comba::datasets {
namespace {

const ImgcodecsPlugin& plugin() {
  using Entry = const ImgcodecsPlugin* (*)();
  static const ImgcodecsPlugin* const loaded = reinterpret_cast<Entry>(
      load_plugin("libcomba_imgcodecs.so", "comba_imgcodecs_plugin", "images other than JPEG",
                  "install libopencv-imgcodecs or keep the library in lib/ beside bin/"))();
  return *loaded;
}

// The size a PNG claims, so that a header bomb is refused before OpenCV allocates for it.
std::optional<ImageSize> png_size(std::span<const uint8_t> bytes) {
  if (image_format(bytes) != ImageFormat::png || bytes.size() < 24) {
    return std::nullopt;
  }
  const auto big_endian = [&](size_t at) {
    return int{bytes[at]} << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3];
  };
  return ImageSize{big_endian(20), big_endian(16)};
}

}  // namespace

bool is_jpeg(std::span<const uint8_t> bytes) { return image_format(bytes) == ImageFormat::jpeg; }

Image decode_image(std::span<const uint8_t> bytes, int channels, const std::string& name) {
  using enum ImageProblem;
  require_image(!bytes.empty(), empty, "decoding {}: the file is empty", name);
  if (is_jpeg(bytes)) {
    return decode_jpeg(bytes, channels, name);
  }
  if (const auto size = png_size(bytes)) {
    const int64_t pixels = int64_t{size->height} * size->width;
    require_image(size->height > 0 && size->width > 0 && pixels <= kMaxPixels, too_large,
                  "decoding {}: the PNG header claims {} x {} pixels, expected 1 .. {}", name,
                  size->width, size->height, kMaxPixels);
    // OpenCV returns a partly decoded picture for a file cut short.
    require_image(
        bytes.size() >= 12 && std::memcmp(bytes.data() + bytes.size() - 8, "IEND", 4) == 0, damaged,
        "decoding {}: the PNG is cut short", name);
  }
  // OpenCV would try many more, some through libraries of great size and little use here (GDAL, GDCM).
  require_image(image_format(bytes) != ImageFormat::unknown, unknown_format,
                "decoding {}: not an image of a format read here (JPEG, PNG, BMP, WebP, TIFF, PNM)",
                name);
  Image image;
  const std::string problem = plugin().decode(bytes, channels, image);
  require_image(problem.empty(), damaged, "decoding {}: {}", name, problem);
  return image;
}

DecodedPart decode_part(std::span<const uint8_t> bytes, int channels, const std::string& name,
                        const BoxChoice& choose, int least_side) {
  if (is_jpeg(bytes)) {
    return decode_jpeg_part(bytes, channels, name, choose, least_side);
  }
  Image image = decode_image(bytes, channels, name);
  const ImageBox box = choose(image.height, image.width);
  return {std::move(image), double(box.y), double(box.x), double(box.height), double(box.width)};
}

Image read_image(const std::filesystem::path& path, int channels) {
  const std::string bytes = read_file(path);
  return decode_image({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, channels,
                      path.string());
}

std::string encode_png(const Image& image) {
  std::string bytes;
  const std::string problem = plugin().encode_png(image, bytes);
  COMBA_CHECK(problem.empty(), "encoding a PNG of {} x {}: {}", image.width, image.height, problem);
  return bytes;
}

}  // namespace comba::datasets
