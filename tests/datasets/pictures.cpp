#include "tests/datasets/pictures.h"

#include "datasets/decode.h"
#include "vision/base/files.h"

#include <cmath>

#include <fmt/format.h>

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
