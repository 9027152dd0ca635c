// A batch of images to be resized and augmented, as its kernels see it: plain numbers and pointers, no torch.
#pragma once

#include "kernels/host_device.h"

#include <cstdint>
#include <vector>

namespace comba::kernels::image {

// The numbers are those of the operator's table of steps, see augment_images.h.
enum class Operation : int32_t {
  none,
  auto_contrast,  // looked up in a table that an image's histogram gives: up to contrast
  equalize,
  contrast,
  invert,  // looked up in a table: up to brightness
  posterize,
  solarize,
  solarize_add,
  brightness,
  colour,
  grayscale,
  sharpness,  // from one buffer into the other: up to affine
  affine,
  box_blur,  // to and fro, and ends where it began
};
constexpr int kOperations = 14;

COMBA_HOST_DEVICE constexpr bool needs_histogram(Operation o) {
  return o >= Operation::auto_contrast && o <= Operation::contrast;
}
COMBA_HOST_DEVICE constexpr bool is_looked_up(Operation o) {
  return o >= Operation::auto_contrast && o <= Operation::brightness;
}
COMBA_HOST_DEVICE constexpr bool changes_buffer(Operation o) {
  return o == Operation::sharpness || o == Operation::affine;
}

// Resampling of one axis: `length` inputs from `start` on become `outputs`, of at most `taps` inputs each.
struct Axis {
  double start = 0, length = 0;
  int32_t outputs = 0, taps = 0;

  // Of its table: the first input of every output, their number, and weights [taps, outputs].
  int64_t table_size() const { return int64_t{2 + taps} * outputs; }
};

// An image and the box that is wanted of it.
struct Source {
  int64_t offset = 0;      // of its first byte
  int64_t line = 0;        // where its resized lines begin, bytes
  int64_t tables[2] = {};  // and its tables of columns and rows, ints
  Axis axes[2];            // columns, from the left; rows, from `top`
  int32_t width = 0;       // px
  int32_t top = 0, lines = 0;
  int32_t flip = 0;
  int32_t buffer = 0;  // that it is resized into
};

// One operation on one image.
struct Task {
  int32_t image = 0;
  Operation operation = Operation::none;
  int32_t from = 0, to = 0;              // buffers
  int32_t number = 0;                    // bits, threshold, amount; whole part of a radius
  float factor = 0;                      // of a blend
  uint32_t weight = 0, edge_weight = 0;  // of a box blur, 24 bits
  double map[6] = {};                    // x = map[0] x' + map[1] y' + map[2], y likewise
};

// Tasks of all images at the same place in their order; sorted by operation.
struct Stage {
  int32_t first = 0, histograms = 0, lookups = 0, all = 0, blurs = 0;  // `all` but for the blurs
};

struct AugmentPlan {
  int32_t height = 0, width = 0;  // px, of the outputs
  std::vector<Source> sources;
  std::vector<Task> tasks;
  std::vector<Stage> stages;
  int64_t line_bytes = 0, table_ints = 0, lookups = 0;  // scratch; the most lookups of a stage
  bool second_buffer = false;                           // whether any task needs it
};

// Everything on one device.
struct AugmentBuffers {
  const uint8_t* pixels = nullptr;
  const Source* sources = nullptr;
  const Task* tasks = nullptr;
  int32_t* tables = nullptr;
  uint8_t* lines = nullptr;        // of an image [lines, width, 3]
  uint8_t* images[2] = {};         // [B, height, width, 3]
  uint32_t* histograms = nullptr;  // [tasks of a stage, 3, 256]
  uint8_t* lookups = nullptr;      // the same
  int32_t height = 0, width = 0;
  uint8_t fill[3] = {};  // what comes in from outside

  COMBA_HOST_DEVICE uint8_t* image(int buffer, int number) const {
    return images[buffer] + int64_t{number} * height * width * 3;
  }
};

}  // namespace comba::kernels::image
