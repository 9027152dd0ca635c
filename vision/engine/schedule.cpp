#include "vision/engine/schedule.h"

#include "vision/base/error.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace comba::vision {

double Schedule::lr(int64_t asked) const {
  const int64_t step = asked - asked % every;
  if (step < warmup_steps) {
    const double share = static_cast<double>(step) / static_cast<double>(warmup_steps);
    return warmup_lr + (peak_lr - warmup_lr) * share;
  }
  if (shape == Shape::step) {
    return step < drop_step ? peak_lr : 0.1 * peak_lr;
  }
  const double share = std::min(1.0, static_cast<double>(step) / static_cast<double>(total_steps));
  const double left = shape == Shape::poly ? std::pow(1.0 - share, power)
                                           : 0.5 * (1.0 + std::cos(std::numbers::pi * share));
  return min_lr + (peak_lr - min_lr) * left;
}

Schedule::Shape shape_of(const std::string& name) {
  if (name == "poly") {
    return Schedule::Shape::poly;
  }
  COMBA_CHECK(name == "cosine" || name == "step", "schedule \"{}\": expected cosine, poly or step",
              name);
  return name == "step" ? Schedule::Shape::step : Schedule::Shape::cosine;
}

}  // namespace comba::vision
