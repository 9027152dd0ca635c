// The learning rate as a pure function of the step.
#pragma once

#include <cstdint>

namespace comba::vision {

struct Schedule {
  double peak_lr = 1e-3;
  double min_lr = 1e-5;
  double warmup_lr = 1e-6;
  int64_t warmup_steps = 0;
  int64_t total_steps = 1;

  // Linear from warmup_lr to peak_lr over warmup_steps, then a half cosine down to min_lr at total_steps. As
  // in DeiT the warm-up counts inside the cosine: the curve continues where the warm-up leaves it.
  double lr(int64_t step) const;
};

}  // namespace comba::vision
