#include "tests/datasets/augment_golden.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include <gtest/gtest.h>

namespace comba::datasets {

Image golden_picture(int height, int width, int low, int high) {
  Image image{height, width, 3, {}};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < 3; ++c) {
        const int hashed = (x * 73 + y * 151 + c * 37 + x * y * 11) % 64;
        const int wave = ((x * (5 + 2 * c) + y * (9 - 3 * c)) % 256 + 256) % 256;
        const int fold = wave < 128 ? 2 * wave : 511 - 2 * wave;
        image.pixels.push_back(
            static_cast<uint8_t>((3 * fold + hashed) * (high - low) / (3 * 255 + 63) + low));
      }
    }
  }
  return image;
}

Image flat_picture() {
  Image flat{7, 9, 3, {}};
  for (int i = 0; i < 63; ++i) {
    flat.pixels.insert(flat.pixels.end(), {50, 200, 0});
  }
  return flat;
}

std::vector<GoldenRecord> golden(const std::string& kind) {
  std::ifstream in(COMBA_GOLDEN_DIR "/augment.golden", std::ios::binary);
  EXPECT_TRUE(in) << "tests/golden/augment.golden is missing";
  std::vector<GoldenRecord> records;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    const std::vector<std::string> all{std::istream_iterator<std::string>(words), {}};
    GoldenRecord record;
    record.words = line;
    record.want.height = std::stoi(all[all.size() - 2]);
    record.want.width = std::stoi(all[all.size() - 1]);
    record.want.pixels.resize(static_cast<size_t>(record.want.height) * record.want.width * 3);
    in.read(reinterpret_cast<char*>(record.want.pixels.data()),
            static_cast<std::streamsize>(record.want.pixels.size()));
    if (all[0] == kind) {
      record.arguments.str(line.substr(kind.size()));
      records.push_back(std::move(record));
    }
  }
  EXPECT_FALSE(records.empty()) << kind;
  return records;
}

int largest_difference(const Image& a, const Image& b) {
  EXPECT_EQ(a.height, b.height);
  EXPECT_EQ(a.width, b.width);
  int largest = 0;
  for (size_t i = 0; i < std::min(a.pixels.size(), b.pixels.size()); ++i) {
    largest = std::max(largest, std::abs(a.pixels[i] - b.pixels[i]));
  }
  return largest;
}

Augmentation kind_of(const std::string& name) {
  for (int i = 0;; ++i) {
    const auto kind = static_cast<Augmentation>(i);
    if (name_of(kind) == name) {
      return kind;
    }
  }
}

}  // namespace comba::datasets
