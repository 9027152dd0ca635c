// What to do when a training step does not fit into a GPU's memory.
#pragma once

#include "vision/engine/precision.h"
#include "vision/engine/task.h"

#include <cstdint>
#include <optional>
#include <string>

#include <c10/core/Device.h>

namespace comba::vision {

// The images that a step would hold in `available` bytes if `small` and `large` (> small) of them took so many bytes: memory
// grows in proportion to them. At least 0.
int64_t images_that_fit(int64_t available, int64_t small, int64_t small_bytes, int64_t large,
                        int64_t large_bytes);

struct StepSize {
  int64_t images = 0;  // of a step of one rank
  int64_t parts = 1;   // train.accumulate
  int64_t ranks = 1;
};

// The settings with which `fitting` images at once are enough; nothing: how many would fit is not known.
std::string smaller_steps(const StepSize& size, std::optional<int64_t> fitting);

// After a step has failed with c10::OutOfMemoryError and all that it held is given back: tries steps of fewer images, forward
// and backward, and says in words how many would fit. Must be called with weights, moments and averages in place.
std::string out_of_memory_message(Task& task, Precision precision, const StepSize& size,
                                  const c10::Device& device);

}  // namespace comba::vision
