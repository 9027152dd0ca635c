// How fast images get to a GPU.
#pragma once

#include "datasets/source.h"

#include <cstdint>

#include <c10/core/Device.h>

namespace comba::tools {

struct TransferRate {
  double images_per_second = 0.0, bytes_per_second = 0.0;
};

// Batches of so many bytes, from page-locked memory, one behind the other.
TransferRate copy_rate(int64_t batch_bytes, int64_t batch_size, const c10::Device& device,
                       double seconds);

struct NvJpegRate {
  double images_per_second = 0.0;
  double decoded =
      0.0;  // share of the images; the others are left to libjpeg-turbo, and not decoded here
  int engines = 0;  // JPEG engines; 0: the GPU's cores decode
};

// Whole images by `threads` threads with a decoder each.
NvJpegRate nvjpeg_rate(const datasets::ImageSource& source, int64_t batch_size, int threads,
                       const c10::Device& device, double seconds);

}  // namespace comba::tools
