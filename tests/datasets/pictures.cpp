#include "tests/datasets/pictures.h"

#include "datasets/decode.h"
#include "vision/base/files.h"
#include "vision/base/random.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include <fmt/format.h>
#include <opencv2/imgcodecs.hpp>

namespace comba::datasets {

Image picture(int height, int width, int channels, int seed) {
  Image image{height, width, channels, {}};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < channels; ++c) {
        const double wave =
            std::sin(0.11 * x + 0.7 * c + 0.3 * seed) * std::cos(0.07 * y - 0.2 * seed);
        image.pixels.push_back(static_cast<uint8_t>(std::lround(128 + 100 * wave)));
      }
    }
  }
  return image;
}

std::string libjpeg_file(const Image& image, J_COLOR_SPACE space,
                         const std::function<void(jpeg_compress_struct&)>& settle) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* buffer = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &buffer, &size);
  info.image_width = static_cast<JDIMENSION>(image.width);
  info.image_height = static_cast<JDIMENSION>(image.height);
  info.input_components = image.channels;
  info.in_color_space = space;
  jpeg_set_defaults(&info);
  settle(info);
  jpeg_start_compress(&info, TRUE);
  for (int y = 0; y < image.height; ++y) {
    auto* row = const_cast<JSAMPROW>(image.row(y));
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  std::string bytes(reinterpret_cast<char*>(buffer), size);
  std::free(buffer);
  return bytes;
}

std::string one_colour_jpeg(J_COLOR_SPACE space, std::initializer_list<uint8_t> colour,
                            bool adobe) {
  Image image{16, 16, static_cast<int>(colour.size()), {}};
  for (int i = 0; i < 16 * 16; ++i) {
    image.pixels.insert(image.pixels.end(), colour);
  }
  return libjpeg_file(image, space, [&](jpeg_compress_struct& info) {
    jpeg_set_quality(&info, 100, TRUE);
    info.write_Adobe_marker = adobe ? TRUE : FALSE;
  });
}

std::string sampled_jpeg(const Image& image, int across, int down) {
  return libjpeg_file(image, JCS_RGB, [&](jpeg_compress_struct& info) {
    info.comp_info[0].h_samp_factor = across;
    info.comp_info[0].v_samp_factor = down;
  });
}

std::string with_claimed_size(std::string jpeg, int height, int width) {
  const size_t frame = jpeg.find("\xff\xc0");
  jpeg[frame + 5] = static_cast<char>(height >> 8);
  jpeg[frame + 6] = static_cast<char>(height);
  jpeg[frame + 7] = static_cast<char>(width >> 8);
  jpeg[frame + 8] = static_cast<char>(width);
  return jpeg;
}

std::string opencv_jpeg(const Image& image, const std::vector<int>& parameters) {
  const cv::Mat rgb(image.height, image.width, image.channels == 3 ? CV_8UC3 : CV_8UC1,
                    const_cast<uint8_t*>(image.pixels.data()));
  std::vector<uint8_t> bytes;
  cv::imencode(".jpg", rgb, bytes, parameters);
  return {bytes.begin(), bytes.end()};
}

Image noisy_picture(int height, int width, int channels) {
  Image image = picture(height, width, channels);
  RandomStream random(1, 2, 3, RandomPurpose::synthesise);
  for (uint8_t& value : image.pixels) {
    value = static_cast<uint8_t>(std::clamp<int64_t>(value + random.below(81) - 40, 0, 255));
  }
  return image;
}

std::string with_orientation(const std::string& jpeg, int orientation, bool big_endian) {
  const auto number = [&](uint32_t value, int bytes) {
    std::string text;
    for (int i = 0; i < bytes; ++i) {
      text.push_back(static_cast<char>(value >> 8 * (big_endian ? bytes - 1 - i : i)));
    }
    return text;
  };
  // Header, one directory of one entry (tag, SHORT, one of it, the value and its padding), no further directory.
  const std::string body = std::string("Exif\0\0", 6) + (big_endian ? "MM" : "II") + number(42, 2) +
                           number(8, 4) + number(1, 2) + number(0x0112, 2) + number(3, 2) +
                           number(1, 4) + number(orientation, 2) + number(0, 2) + number(0, 4);
  const size_t length = body.size() + 2;
  return jpeg.substr(0, 2) + "\xff\xe1" + static_cast<char>(length >> 8) +
         static_cast<char>(length) + body + jpeg.substr(2);
}

void write_class_folders(const std::filesystem::path& root, int classes, int count) {
  for (int label = 0; label < classes; ++label) {
    const auto folder = root / fmt::format("class{}", label);
    std::filesystem::create_directories(folder);
    for (int i = 0; i < count; ++i) {
      write_file_atomic(folder / fmt::format("{:03}.png", i),
                        encode_png(picture(12, 10, 3, label * count + i)));
    }
  }
}

}  // namespace comba::datasets
