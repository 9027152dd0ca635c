// What becomes of one training image once it is decoded. It is drawn beforehand, so that whoever carries it out, this
// machine's cores or a GPU (kernels/image/), makes the same pixels.
#pragma once

#include "datasets/augment.h"
#include "datasets/decode.h"

#include <vector>

namespace comba::datasets {

// In this order: the wanted box is resized (resample.h), mirrored and augmented.
struct ImagePlan {
  int size = 0;       // px, of the square that the box becomes
  bool flip = false;  // left and right change places
  std::vector<AugmentStep> steps;
};

struct PreparedImage {
  DecodedPart part;
  ImagePlan plan;
};

// Returns [size, size, channels].
Image carry_out(const PreparedImage& prepared);

}  // namespace comba::datasets
