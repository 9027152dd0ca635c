#include "vision/engine/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace comba::vision {

double Schedule::lr(int64_t step) const {
  if (step < warmup_steps) {
    const double share = static_cast<double>(step) / static_cast<double>(warmup_steps);
    return warmup_lr + (peak_lr - warmup_lr) * share;
  }
  if (shape == Shape::step) {
    return step < drop_step ? peak_lr : 0.1 * peak_lr;
  }
  const double share = std::min(1.0, static_cast<double>(step) / static_cast<double>(total_steps));
  return min_lr + 0.5 * (peak_lr - min_lr) * (1.0 + std::cos(std::numbers::pi * share));
}

}  // namespace comba::vision
