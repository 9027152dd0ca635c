// Pictures made for the tests, and folders of them.
#pragma once

#include "datasets/image.h"

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace comba::datasets {

// Smooth colours that differ with `seed`, so that lossy coding keeps them.
Image picture(int height, int width, int channels, int seed = 0);

inline std::span<const uint8_t> as_bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// ROOT/<class>/<number>.png for `classes` classes of `count` pictures each, 12 x 10 px.
void write_class_folders(const std::filesystem::path& root, int classes, int count);

}  // namespace comba::datasets
