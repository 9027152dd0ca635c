// JPEG through libjpeg-turbo's own interface: errors become exceptions, warnings are counted.
#include "datasets/jpeg.h"

#include "datasets/decode.h"
#include "vision/base/error.h"

#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

#include <jpeglib.h>

namespace comba::datasets {
namespace {

// libjpeg calls these in place of exit() and fprintf().
struct ErrorManager {
  jpeg_error_mgr base;
  std::jmp_buf escape;
  char message[JMSG_LENGTH_MAX] = "";
  char warning[JMSG_LENGTH_MAX] = "";
};

void on_error(j_common_ptr info) {
  auto* manager = reinterpret_cast<ErrorManager*>(info->err);
  info->err->format_message(info, manager->message);
  std::longjmp(manager->escape, 1);
}

void on_message(j_common_ptr info, int level) {
  if (level < 0) {  // corrupt data
    auto* manager = reinterpret_cast<ErrorManager*>(info->err);
    if (manager->base.num_warnings++ == 0) {
      info->err->format_message(info, manager->warning);
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

// What setjmp guards: no C++ object with a destructor lives here, so longjmp skips none.
struct Decoder {
  jpeg_decompress_struct info;
  ErrorManager errors;
  bool too_large = false;
};

bool read_header(Decoder& decoder, std::span<const uint8_t> bytes) {
  install(decoder.errors);
  decoder.info.err = &decoder.errors.base;
  if (setjmp(decoder.errors.escape) != 0) {
    return false;
  }
  jpeg_create_decompress(&decoder.info);
  jpeg_mem_src(&decoder.info, bytes.data(), bytes.size());
  jpeg_read_header(&decoder.info, TRUE);
  return true;
}

bool read_pixels(Decoder& decoder, int channels, Image& image, uint8_t* row) {
  if (setjmp(decoder.errors.escape) != 0) {
    return false;
  }
  jpeg_decompress_struct& info = decoder.info;
  const bool cmyk = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
  info.out_color_space = cmyk ? JCS_CMYK : channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_start_decompress(&info);
  while (info.output_scanline < info.output_height) {
    const int y = static_cast<int>(info.output_scanline);
    JSAMPROW target = cmyk ? row : image.row(y);
    jpeg_read_scanlines(&info, &target, 1);
    if (cmyk) {
      cmyk_row(row, image.width, info.saw_Adobe_marker != 0, channels, image.row(y));
    }
  }
  jpeg_finish_decompress(&info);
  return true;
}

}  // namespace

Image decode_jpeg(std::span<const uint8_t> bytes, int channels, const std::string& name) {
  Decoder decoder{};
  struct Cleanup {
    jpeg_decompress_struct* info;
    ~Cleanup() { jpeg_destroy_decompress(info); }
  } cleanup{&decoder.info};
  COMBA_CHECK(read_header(decoder, bytes), "decoding {}: {}", name, decoder.errors.message);
  const int64_t width = decoder.info.image_width, height = decoder.info.image_height;
  COMBA_CHECK(width * height <= kMaxPixels,
              "decoding {}: the JPEG header claims {} x {} pixels, more than the limit of {}", name,
              width, height, kMaxPixels);
  Image image{static_cast<int>(height), static_cast<int>(width), channels, {}};
  image.pixels.resize(static_cast<size_t>(width) * height * channels);
  std::vector<uint8_t> row(static_cast<size_t>(width) * 4);
  COMBA_CHECK(read_pixels(decoder, channels, image, row.data()), "decoding {}: {}", name,
              decoder.errors.message);
  COMBA_CHECK(decoder.errors.base.num_warnings == 0, "decoding {}: damaged JPEG: {}", name,
              decoder.errors.warning);
  return image;
}

namespace {

bool compress(jpeg_compress_struct& info, ErrorManager& errors, const Image& image, int quality,
              unsigned char** buffer, unsigned long* size) {
  if (setjmp(errors.escape) != 0) {
    return false;
  }
  jpeg_create_compress(&info);
  jpeg_mem_dest(&info, buffer, size);
  info.image_width = static_cast<JDIMENSION>(image.width);
  info.image_height = static_cast<JDIMENSION>(image.height);
  info.input_components = image.channels;
  info.in_color_space = image.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, quality, TRUE);
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
  jpeg_compress_struct info{};
  ErrorManager errors{};
  install(errors);
  info.err = &errors.base;
  unsigned char* buffer = nullptr;
  unsigned long size = 0;
  const bool done = compress(info, errors, image, quality, &buffer, &size);
  std::string bytes(reinterpret_cast<const char*>(buffer), done ? size : 0);
  jpeg_destroy_compress(&info);
  std::free(buffer);
  COMBA_CHECK(done, "encoding a JPEG of {} x {}: {}", image.width, image.height, errors.message);
  return bytes;
}

}  // namespace comba::datasets
