// The last steps of a batch of training images, as their kernel sees them: plain numbers and pointers, no torch.
#pragma once

#include "kernels/host_device.h"

#include <cstdint>

namespace comba::kernels::image {

struct Box {
  int32_t y = 0, x = 0, height = 0, width = 0;  // px

  COMBA_HOST_DEVICE bool holds(int at_y, int at_x) const {
    return at_y >= y && at_y < y + height && at_x >= x && at_x < x + width;
  }
};

enum class EraseMode : int32_t { pixel, colour, constant };

// What is done to one image.
struct Finish {
  uint32_t philox[6] = {};           // of its noise: key and counter
  int32_t first_box = 0, boxes = 0;  // erased, in this order
  int32_t partner = 0;               // that it is mixed with
  float share = 1;                   // of itself
  Box cut;                           // that the partner fills
};

// Everything on one device.
struct NormaliseProblem {
  const uint8_t* pixels = nullptr;                 // [B, size, size, channels]
  const float *scale = nullptr, *shift = nullptr;  // [channels]
  const float* noise = nullptr;                    // [4096]
  const Finish* finish = nullptr;                  // [B]
  const Box* boxes = nullptr;
  int32_t images = 0, size = 0, channels = 0;
  EraseMode mode = EraseMode::pixel;
  bool mixed = false;
};

}  // namespace comba::kernels::image
