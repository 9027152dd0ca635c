#include "datasets/inspect.h"

#include "datasets/jpeg.h"

#include <algorithm>
#include <filesystem>
#include <string_view>

namespace comba::datasets {
namespace {

bool starts_with(std::span<const uint8_t> bytes, std::string_view magic) {
  return bytes.size() >= magic.size() &&
         std::equal(magic.begin(), magic.end(), bytes.begin(),
                    [](char a, uint8_t b) { return static_cast<uint8_t>(a) == b; });
}

// Numbers of a TIFF structure in either byte order; 0 beyond its end.
class TiffReader {
 public:
  explicit TiffReader(std::span<const uint8_t> bytes)
      : bytes_(bytes), little_(starts_with(bytes, "II")) {}
  uint32_t number(size_t at, size_t width) const {
    uint32_t value = 0;
    if (at > bytes_.size() || bytes_.size() - at < width) {
      return 0;
    }
    for (size_t i = 0; i < width; ++i) {
      value = value << 8 | bytes_[at + (little_ ? width - 1 - i : i)];
    }
    return value;
  }

 private:
  std::span<const uint8_t> bytes_;
  bool little_;
};

// The orientation tag (0x0112) of the first directory of an APP1 segment; Exif 2.3, section 4.6.
int exif_orientation(std::span<const uint8_t> segment) {
  constexpr size_t kPrefix = 6, kEntry = 12;
  if (!starts_with(segment, {"Exif\0\0", kPrefix})) {
    return 1;
  }
  const TiffReader tiff(segment.subspan(kPrefix));
  const size_t directory = tiff.number(4, 4);
  for (size_t i = 0; i < tiff.number(directory, 2); ++i) {
    const size_t entry = directory + 2 + i * kEntry;
    if (tiff.number(entry, 2) == 0x0112) {
      const uint32_t value = tiff.number(entry + 8, 2);
      return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
    }
  }
  return 1;
}

ImageFormat format_of_extension(const std::string& path) {
  std::string extension = std::filesystem::path(path).extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  static constexpr std::pair<std::string_view, ImageFormat> kFormats[] = {
      {".jpg", ImageFormat::jpeg}, {".jpeg", ImageFormat::jpeg}, {".jpe", ImageFormat::jpeg},
      {".png", ImageFormat::png},  {".bmp", ImageFormat::bmp},   {".webp", ImageFormat::webp},
      {".tif", ImageFormat::tiff}, {".tiff", ImageFormat::tiff}, {".pbm", ImageFormat::pnm},
      {".pgm", ImageFormat::pnm},  {".ppm", ImageFormat::pnm}};
  const auto* const found =
      std::find_if(std::begin(kFormats), std::end(kFormats),
                   [&](const auto& entry) { return entry.first == extension; });
  return found == std::end(kFormats) ? ImageFormat::unknown : found->second;
}

}  // namespace

ImageFormat image_format(std::span<const uint8_t> bytes) {
  static constexpr std::pair<std::string_view, ImageFormat> kMagics[] = {
      {"\xff\xd8\xff", ImageFormat::jpeg},
      {"\x89PNG\r\n\x1a\n", ImageFormat::png},
      {"BM", ImageFormat::bmp},
      {"RIFF", ImageFormat::webp},
      {{"II*\0", 4}, ImageFormat::tiff},
      {{"MM\0*", 4}, ImageFormat::tiff}};
  for (const auto& [magic, format] : kMagics) {
    if (starts_with(bytes, magic)) {
      return format;
    }
  }
  const bool pnm = bytes.size() > 2 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6';
  return pnm ? ImageFormat::pnm : ImageFormat::unknown;
}

ImageFacts inspect_image(std::span<const uint8_t> bytes, const std::string& name) {
  ImageFacts facts;
  facts.format = image_format(bytes);
  if (facts.format == ImageFormat::png && bytes.size() > 25) {  // depth and colour type in IHDR
    facts.deep = bytes[24] > 8;
    facts.grey = bytes[25] == 0 || bytes[25] == 4;
  }
  if (facts.format != ImageFormat::jpeg) {
    return facts;
  }
  const JpegHeader header = jpeg_header(bytes, name);
  facts.grey = header.colours == JpegColours::grey;
  facts.cmyk = header.colours == JpegColours::cmyk;
  facts.progressive = header.progressive;
  for (const std::vector<uint8_t>& segment : header.app1) {
    facts.orientation = facts.orientation == 1 ? exif_orientation(segment) : facts.orientation;
  }
  facts.plain_jpeg = header.colours == JpegColours::ycbcr && !header.progressive &&
                     !header.arithmetic && header.usual_sampling;
  return facts;
}

std::vector<std::string> peculiarities(const ImageFacts& facts, const std::string& path) {
  std::vector<std::string> found;
  const auto note = [&](bool holds, const char* what) {
    if (holds) {
      found.emplace_back(what);
    }
  };
  note(facts.grey, "grey");
  note(facts.cmyk, "CMYK");
  note(facts.progressive, "progressive");
  note(facts.deep, "16 bits");
  note(facts.format != ImageFormat::jpeg, "not JPEG");
  note(facts.format == ImageFormat::jpeg && !facts.plain_jpeg && !facts.grey && !facts.cmyk &&
           !facts.progressive,
       "unusual JPEG");
  note(facts.orientation != 1, "EXIF orientation (not applied)");
  note(format_of_extension(path) != facts.format, "wrong extension");
  return found;
}

}  // namespace comba::datasets
