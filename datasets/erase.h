// Random erasing (Zhong et al., arXiv 1708.04896, as timm 1.0.31 has it, data/random_erasing.py): boxes of a normalised
// training image are filled with noise.
//
// Boxes are drawn first and filled afterwards, by whoever does it. Noise is looked up in a table by random bits, without
// any arithmetic on floating point numbers, so that a CPU and a GPU write the same.
#pragma once

#include "datasets/image.h"
#include "datasets/sample_key.h"
#include "vision/base/config.h"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace comba::datasets {

struct EraseOptions {
  double probability = 0.0;  // that an image is erased at all
  std::string mode =
      "pixel";        // pixel: noise | colour: one random colour for a box | const: the mean, 0
  int64_t count = 1;  // at most so many boxes, which share the area that one would have
};

// Registers the keys under "data." in the table.
void declare(ConfigTable& table, EraseOptions& options);

// The boxes of an image of side x side px; mostly none. They may overlap.
std::vector<ImageBox> draw_erasing(const EraseOptions& options, int side, const SampleKey& key);

// Standard normal values: the middle quantiles of 4,096 equal shares. Their distribution function is within 1/8192 of the
// normal one; mean 0, variance 0.9997, none beyond 3.67.
const std::array<float, 4096>& normal_table();

// Writes what fills box `number` of an image, [channels, height, width], and returns the end of it. The noise at an
// element of the image, number e in [channels, side, side], is the table's entry at the upper 12 of the key's 32 random
// bits number e; the colour of a box in channel c is that of e = number * channels + c.
float* fill_erased(const std::string& mode, const ImageBox& box, int number, int side, int channels,
                   const SampleKey& key, float* out);

}  // namespace comba::datasets
