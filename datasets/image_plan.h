// What becomes of one training image once it is decoded. It is drawn beforehand, so that whoever carries it out, this
// machine's cores or a GPU (kernels/image/), makes the same pixels.
#pragma once

#include "datasets/augment.h"
#include "datasets/decode.h"

#include <cstdint>
#include <vector>

namespace comba::datasets {

// In this order: the wanted box is resized (resample.h), mirrored and augmented.
struct ImagePlan {
  int height = 0, width = 0;  // px, that the box becomes
  bool flip = false;          // left and right change places
  std::vector<AugmentStep> steps;
};

struct PreparedImage {
  DecodedPart part;
  ImagePlan plan;
};

// Returns [size, size, channels].
Image carry_out(const PreparedImage& prepared);

// A prepared image whose pixels lie among those of others.
struct PlacedImage {
  int64_t offset = 0;                                  // of its first byte
  int height = 0, width = 0;                           // px
  double y = 0, x = 0, box_height = 0, box_width = 0;  // the wanted box, px
  ImagePlan plan;
  int64_t encoded = 0;  // bytes of the JPEG that lies there instead, to be decoded whole; 0: pixels
};

// Where an image of no more than the rows that its box needs would lie. (Columns stay: resampling counts from the left.)
PlacedImage place(const PreparedImage& prepared, int64_t offset);
int64_t bytes_of(const PlacedImage& placed, int channels);
// Copies those rows to the first of its bytes.
void copy_rows(const PreparedImage& prepared, const PlacedImage& placed, uint8_t* first);

}  // namespace comba::datasets
