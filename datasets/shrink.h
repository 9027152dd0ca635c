// Smaller copies of images, for packing.
#pragma once

#include "datasets/image.h"

namespace comba::datasets {

// Scales so that the shorter side has `short_side` px (antialiased); the image must be larger than that.
Image shrink_short_side(const Image& image, int short_side);

}  // namespace comba::datasets
