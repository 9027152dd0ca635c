// JPEG through libjpeg-turbo's own interface: errors become exceptions, warnings are counted.
#include "datasets/jpeg.h"

#include "datasets/decode.h"
#include "vision/base/error.h"

#include <algorithm>
#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <jpeglib.h>

namespace comba::datasets {
namespace {

// libjpeg calls these in place of exit() and fprintf().
struct ErrorManager {
  jpeg_error_mgr base;
  std::jmp_buf escape;
  char message[JMSG_LENGTH_MAX] = "";
  char warning[JMSG_LENGTH_MAX] = "";
  size_t left = 0;  // bytes behind the place of the error or first warning
};

size_t bytes_left(j_common_ptr info) {
  const auto* source =
      info->is_decompressor != 0 ? reinterpret_cast<j_decompress_ptr>(info)->src : nullptr;
  return source != nullptr ? source->bytes_in_buffer : 0;
}

void on_error(j_common_ptr info) {
  auto* manager = reinterpret_cast<ErrorManager*>(info->err);
  info->err->format_message(info, manager->message);
  manager->left = bytes_left(info);
  std::longjmp(manager->escape, 1);
}

void on_message(j_common_ptr info, int level) {
  if (level < 0) {  // corrupt data
    auto* manager = reinterpret_cast<ErrorManager*>(info->err);
    if (manager->base.num_warnings++ == 0) {
      info->err->format_message(info, manager->warning);
      manager->left = bytes_left(info);
    }
  }
}

void install(ErrorManager& manager) {
  jpeg_std_error(&manager.base);
  manager.base.error_exit = on_error;
  manager.base.emit_message = on_message;
}

// CMYK as Adobe writes it (inverted) to RGB; libjpeg itself turns YCCK into CMYK.
void cmyk_row(const uint8_t* cmyk, int width, bool inverted, int channels, uint8_t* out) {
  for (int x = 0; x < width; ++x, cmyk += 4) {
    int rgb[3];
    for (int i = 0; i < 3; ++i) {
      rgb[i] = inverted ? cmyk[i] * cmyk[3] / 255 : (255 - cmyk[i]) * (255 - cmyk[3]) / 255;
    }
    if (channels == 3) {
      for (const int value : rgb) {
        *out++ = static_cast<uint8_t>(value);
      }
    } else {
      *out++ =
          static_cast<uint8_t>((19595 * rgb[0] + 38470 * rgb[1] + 7471 * rgb[2] + 32768) >> 16);
    }
  }
}

// A file of a few bytes can claim any number of scans, each of which goes through all pixels.
constexpr int kMostScans = 200;

void on_progress(j_common_ptr info) {
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number > kMostScans) {
    auto* manager = reinterpret_cast<ErrorManager*>(info->err);
    std::snprintf(manager->message, sizeof manager->message, "more than %d scans", kMostScans);
    manager->left = bytes_left(info);
    std::longjmp(manager->escape, 1);
  }
}

// What setjmp guards: no C++ object with a destructor lives here, so longjmp skips none.
struct Decoder {
  jpeg_decompress_struct info;
  ErrorManager errors;
  jpeg_progress_mgr progress;
  unsigned saved_app1 = 0;  // bytes kept of each such segment
};

bool read_header(Decoder& decoder, std::span<const uint8_t> bytes) {
  install(decoder.errors);
  decoder.info.err = &decoder.errors.base;
  if (setjmp(decoder.errors.escape) != 0) {
    return false;
  }
  jpeg_create_decompress(&decoder.info);
  decoder.progress.progress_monitor = on_progress;
  decoder.info.progress = &decoder.progress;
  jpeg_mem_src(&decoder.info, bytes.data(), bytes.size());
  jpeg_save_markers(&decoder.info, JPEG_APP0 + 1, decoder.saved_app1);
  jpeg_read_header(&decoder.info, TRUE);
  return true;
}

// What is read of an image, and at which size.
struct Region {
  int eighths = 8;  // of the full size, done by the inverse transform
  ImageBox box;     // at that size
};

// Columns around those of the region, before libjpeg widens them to whole coded units: chroma is interpolated otherwise at
// a cut edge, up to two of its pixels.
constexpr int kMargin = 4;  // px

// Begins decoding where only the region's columns come out; sets how many are on its left, and all of them.
void start(jpeg_decompress_struct& info, const Region& region, int channels, JDIMENSION& left,
           JDIMENSION& width) {
  const bool cmyk = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
  info.out_color_space = cmyk ? JCS_CMYK : channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  info.scale_num = static_cast<unsigned>(region.eighths);
  info.scale_denom = 8;
  jpeg_start_decompress(&info);
  const auto all = static_cast<int>(info.output_width);
  const int begin = std::max(0, region.box.x - kMargin);
  const int end = std::min(all, region.box.x + region.box.width + kMargin);
  JDIMENSION first = static_cast<JDIMENSION>(begin);
  width = static_cast<JDIMENSION>(end - begin);
  if (end - begin < all) {
    jpeg_crop_scanline(&info, &first, &width);
  }
  left = static_cast<JDIMENSION>(region.box.x) - first;
}

// Rows of the region into `image`; `row` holds one of the whole image with four channels.
bool read_pixels(Decoder& decoder, const Region& region, Image& image, uint8_t* row) {
  if (setjmp(decoder.errors.escape) != 0) {
    return false;
  }
  jpeg_decompress_struct& info = decoder.info;
  JDIMENSION left = 0, width = 0;
  start(info, region, image.channels, left, width);
  const bool cmyk = info.out_color_space == JCS_CMYK,
             whole = width == static_cast<JDIMENSION>(image.width);
  if (region.box.y > 0) {
    jpeg_skip_scanlines(&info, static_cast<JDIMENSION>(region.box.y));
  }
  for (int y = 0; y < image.height; ++y) {
    JSAMPROW target = cmyk || !whole ? row : image.row(y);
    jpeg_read_scanlines(&info, &target, 1);
    if (cmyk) {
      cmyk_row(row + 4 * left, image.width, info.saw_Adobe_marker != 0, image.channels,
               image.row(y));
    } else if (!whole) {
      std::memcpy(image.row(y), row + left * image.channels,
                  static_cast<size_t>(image.width) * image.channels);
    }
  }
  if (info.output_scanline == info.output_height) {
    jpeg_finish_decompress(&info);
  }
  return true;
}

// The least of full, half and quarter size (for others there is no fast transform) that leaves both sides of the box
// `least` px.
Region choose_region(const ImageBox& box, int least, int height, int width) {
  Region region;
  for (const int eighths : {4, 2}) {
    if (std::min(box.height, box.width) * eighths / 8 < least) {
      break;
    }
    region.eighths = eighths;
  }
  // Outwards to whole pixels of that size.
  const auto scaled_end = [&](int end, int side) {
    return std::min((end * region.eighths + 7) / 8, (side * region.eighths + 7) / 8);
  };
  const int y = box.y * region.eighths / 8, x = box.x * region.eighths / 8;
  region.box = {y, x, scaled_end(box.y + box.height, height) - y,
                scaled_end(box.x + box.width, width) - x};
  return region;
}

}  // namespace

namespace {

struct Cleanup {
  jpeg_decompress_struct* info;
  ~Cleanup() { jpeg_destroy_decompress(info); }
};

JpegColours colours_of(J_COLOR_SPACE space) {
  switch (space) {
    case JCS_GRAYSCALE:
      return JpegColours::grey;
    case JCS_YCbCr:
      return JpegColours::ycbcr;
    case JCS_CMYK:
    case JCS_YCCK:
      return JpegColours::cmyk;
    default:
      return JpegColours::other;
  }
}

bool has_usual_sampling(const jpeg_decompress_struct& info) {
  for (int i = 0; i < info.num_components; ++i) {
    const jpeg_component_info& component = info.comp_info[i];
    const int most = i == 0 ? 2 : 1;
    if (component.h_samp_factor > most || component.v_samp_factor > most) {
      return false;
    }
  }
  return true;
}

// `done`: no error; a warning, as of a file cut short, is one here too.
void require_decoded(bool done, const Decoder& decoder, std::span<const uint8_t> bytes,
                     const std::string& name) {
  const ErrorManager& errors = decoder.errors;
  require_image(done && errors.base.num_warnings == 0, ImageProblem::damaged,
                "decoding {}: damaged JPEG: {} near byte {} of {}", name,
                done ? errors.warning : errors.message,
                bytes.size() - std::min(bytes.size(), errors.left), bytes.size());
}

std::vector<uint8_t>& kept_memory() {
  thread_local std::vector<uint8_t> memory;
  return memory;
}

std::vector<uint8_t> take_memory() { return std::exchange(kept_memory(), {}); }

}  // namespace

void recycle(Image&& image) {
  constexpr size_t kMost = size_t{1} << 24;  // bytes; larger ones are rare
  std::vector<uint8_t>& kept = kept_memory();
  if (image.pixels.capacity() <= kMost && image.pixels.capacity() > kept.capacity()) {
    kept = std::move(image.pixels);
  }
}

JpegHeader jpeg_header(std::span<const uint8_t> bytes, const std::string& name) {
  Decoder decoder{};
  decoder.saved_app1 = 0xffff;
  const Cleanup cleanup{&decoder.info};
  require_decoded(read_header(decoder, bytes), decoder, bytes, name);
  const jpeg_decompress_struct& info = decoder.info;
  JpegHeader header{colours_of(info.jpeg_color_space),
                    info.progressive_mode != 0,
                    info.arith_code != 0,
                    has_usual_sampling(info),
                    {},
                    static_cast<int>(info.image_height),
                    static_cast<int>(info.image_width)};
  for (auto* marker = info.marker_list; marker != nullptr; marker = marker->next) {
    header.app1.emplace_back(marker->data, marker->data + marker->data_length);
  }
  return header;
}

DecodedPart decode_jpeg_part(std::span<const uint8_t> bytes, int channels, const std::string& name,
                             const BoxChoice& choose, int least_side) {
  Decoder decoder{};
  const Cleanup cleanup{&decoder.info};
  require_decoded(read_header(decoder, bytes), decoder, bytes, name);
  const int64_t width = decoder.info.image_width, height = decoder.info.image_height;
  require_image(width * height <= kMaxPixels, ImageProblem::too_large,
                "decoding {}: the JPEG header claims {} x {} pixels, more than the limit of {}",
                name, width, height, kMaxPixels);
  const ImageBox wanted = choose(static_cast<int>(height), static_cast<int>(width));
  const Region region =
      choose_region(wanted, least_side, static_cast<int>(height), static_cast<int>(width));
  Image image{region.box.height, region.box.width, channels, take_memory()};
  image.pixels.resize(static_cast<size_t>(image.width) * image.height * channels);
  std::vector<uint8_t> row(static_cast<size_t>(width) * 4);
  require_decoded(read_pixels(decoder, region, image, row.data()), decoder, bytes, name);
  const double scale = region.eighths / 8.0;
  return {std::move(image), wanted.y * scale - region.box.y, wanted.x * scale - region.box.x,
          wanted.height * scale, wanted.width * scale};
}

Image decode_jpeg(std::span<const uint8_t> bytes, int channels, const std::string& name) {
  const auto all = [](int height, int width) { return ImageBox{0, 0, height, width}; };
  return decode_jpeg_part(bytes, channels, name, all, kMaxPixels).image;
}

namespace {

// As Adobe writes it: inverted, here without black.
Image to_cmyk(const Image& rgb) {
  Image image{rgb.height, rgb.width, 4, {}};
  for (size_t i = 0; i < rgb.pixels.size(); i += 3) {
    image.pixels.insert(image.pixels.end(), &rgb.pixels[i], &rgb.pixels[i] + 3);
    image.pixels.push_back(255);
  }
  return image;
}

bool compress(jpeg_compress_struct& info, ErrorManager& errors, const Image& image, int quality,
              bool progressive, unsigned char** buffer, unsigned long* size) {
  if (setjmp(errors.escape) != 0) {
    return false;
  }
  jpeg_create_compress(&info);
  jpeg_mem_dest(&info, buffer, size);
  info.image_width = static_cast<JDIMENSION>(image.width);
  info.image_height = static_cast<JDIMENSION>(image.height);
  info.input_components = image.channels;
  info.in_color_space = image.channels == 1   ? JCS_GRAYSCALE
                        : image.channels == 3 ? JCS_RGB
                                              : JCS_CMYK;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, quality, TRUE);
  if (progressive) {
    jpeg_simple_progression(&info);
  }
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    auto* row = const_cast<JSAMPROW>(image.row(static_cast<int>(info.next_scanline)));
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  return true;
}

}  // namespace

std::string encode_jpeg(const Image& image, int quality) {
  return encode_jpeg(image, quality, JpegKind::baseline);
}

std::string encode_jpeg(const Image& image, int quality, JpegKind kind) {
  if (kind == JpegKind::cmyk && image.channels == 3) {
    return encode_jpeg(to_cmyk(image), quality, kind);
  }
  jpeg_compress_struct info{};
  ErrorManager errors{};
  install(errors);
  info.err = &errors.base;
  unsigned char* buffer = nullptr;
  unsigned long size = 0;
  const bool done =
      compress(info, errors, image, quality, kind == JpegKind::progressive, &buffer, &size);
  std::string bytes(reinterpret_cast<const char*>(buffer), done ? size : 0);
  jpeg_destroy_compress(&info);
  std::free(buffer);
  COMBA_CHECK(done, "encoding a JPEG of {} x {}: {}", image.width, image.height, errors.message);
  return bytes;
}

}  // namespace comba::datasets
