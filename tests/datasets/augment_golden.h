// What Pillow and timm made of pictures given by a formula, see tests/golden/make_augment.py.
#pragma once

#include "datasets/augment.h"
#include "datasets/image.h"

#include <sstream>
#include <string>
#include <vector>

namespace comba::datasets {

// As in make_augment.py.
Image golden_picture(int height, int width, int low = 0, int high = 255);
Image flat_picture();

struct GoldenRecord {
  std::string words;
  std::istringstream arguments;
  Image want;
};

// The records whose line begins with `kind`.
std::vector<GoldenRecord> golden(const std::string& kind);

Augmentation kind_of(const std::string& name);

int largest_difference(const Image& a, const Image& b);

}  // namespace comba::datasets
