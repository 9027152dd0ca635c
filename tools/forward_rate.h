// How fast a model's forward pass is, and what it takes of a GPU's memory.
#pragma once

#include "vision/engine/precision.h"

#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::tools {

struct ForwardRate {
  double milliseconds = 0;  // as a CUDA graph where there is one
  double eager = 0;         // launch by launch
  int64_t peak_memory = 0;  // bytes, launch by launch, the model's included; 0 on the CPU
};

// Medians of `repeats` runs of `forward`, without gradients.
ForwardRate measure_forward(const std::function<at::Tensor()>& forward, vision::Precision precision,
                            const c10::Device& device, int repeats);

}  // namespace comba::tools
