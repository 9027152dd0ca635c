// The learning rate as a pure function of the step.
#pragma once

#include <cstdint>

namespace comba::vision {

struct Schedule {
  enum class Shape { cosine, step };
  Shape shape = Shape::cosine;
  double peak_lr = 1e-3;
  double min_lr = 1e-5;
  double warmup_lr = 1e-6;
  int64_t warmup_steps = 0;
  int64_t total_steps = 1;
  int64_t drop_step = 0;  // Shape::step: from here on a tenth of peak_lr

  // Linear from warmup_lr to peak_lr over warmup_steps, then a half cosine down to min_lr at total_steps. As
  // in DeiT the warm-up counts inside the cosine: the curve continues where the warm-up leaves it. Or, after the warm-up,
  // peak_lr up to drop_step.
  double lr(int64_t step) const;
};

}  // namespace comba::vision
