// The tables of comba::augment_images, checked and made into the plan that a device carries out.
#pragma once

#include "kernels/image/augment_plan.h"

#include <ATen/core/Tensor.h>

namespace comba::kernels::image {

AugmentPlan make_augment_plan(const at::Tensor& pixels, const at::Tensor& images,
                              const at::Tensor& steps, at::IntArrayRef size, at::IntArrayRef fill);

// The outputs and the scratch of a plan, on one device.
struct AugmentMemory {
  at::Tensor images,
      other;  // [B, height, width, 3]; other: empty unless the plan needs a second buffer
  at::Tensor tables, lines, histograms, lookups;

  AugmentMemory(const AugmentPlan& plan, const at::TensorOptions& options);
  // But for sources and tasks.
  AugmentBuffers buffers(const AugmentPlan& plan, const at::Tensor& pixels,
                         at::IntArrayRef fill) const;
};

}  // namespace comba::kernels::image
