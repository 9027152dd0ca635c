// What each step came to, written down on the device so that no step waits for the host.
#pragma once

#include "vision/engine/distributed.h"

#include <cmath>
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::vision {

struct StepFigures {
  double loss = 0.0;  // the mean of all ranks' shares
  double gradient_norm =
      0.0;  // before clipping; the optimizer leaves out a step whose norm is not finite
  bool finite() const { return std::isfinite(loss) && std::isfinite(gradient_norm); }
};

class StepHistory {
 public:
  static constexpr int64_t kCapacity = 1024;  // steps between two take()s

  explicit StepHistory(const c10::Device& device);

  // Adds to the loss of the step in progress.
  void add_loss(const at::Tensor& loss);
  // Ends the step. Like add_loss() it may be recorded in a CUDA graph: the place it writes to is counted on the device.
  void close(const at::Tensor& gradient_norm);
  // The steps since the last call, oldest first. On all ranks together; waits for the device.
  std::vector<StepFigures> take(Ranks& ranks);

 private:
  at::Tensor loss_;     // fp64 [1], of the step in progress
  at::Tensor place_;    // int64 [1]
  at::Tensor figures_;  // fp64 [2, kCapacity]: losses, norms
};

}  // namespace comba::vision
