// The learning rate as a pure function of the step.
#pragma once

#include <cstdint>
#include <string>

namespace comba::vision {

struct Schedule {
  enum class Shape { cosine, poly, step };
  Shape shape = Shape::cosine;
  double peak_lr = 1e-3;
  double min_lr = 1e-5;
  double warmup_lr = 1e-6;
  int64_t warmup_steps = 0;
  int64_t total_steps = 1;
  int64_t drop_step = 0;  // Shape::step: from here on a tenth of peak_lr
  double power = 1.0;     // Shape::poly
  int64_t every = 1;      // the rate stays for so many steps: that of the first of them

  // Linear from warmup_lr to peak_lr over warmup_steps, then a half cosine down to min_lr at total_steps. As
  // in DeiT the warm-up counts inside the cosine: the curve continues where the warm-up leaves it. Shape::poly likewise,
  // by (1 - step / total_steps)^power. Or, after the warm-up, peak_lr up to drop_step.
  double lr(int64_t step) const;
};

// "cosine", "poly" or "step".
Schedule::Shape shape_of(const std::string& name);

}  // namespace comba::vision
