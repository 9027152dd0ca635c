// The tables of comba::normalise_images, checked and made into what a kernel reads.
#pragma once

#include "kernels/image/normalise_plan.h"

#include <optional>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::kernels::image {

// The operator's arguments.
struct NormaliseArguments {
  const at::Tensor &pixels, &scale, &shift;
  const std::optional<at::Tensor>&boxes, &streams, &noise;
  std::string_view mode;
  const std::optional<at::Tensor>& mixes;
  std::optional<at::ScalarType> dtype;
};

struct NormalisePlan {
  std::vector<Finish> finish;
  std::vector<Box> boxes;
  std::vector<float> noise;  // [4096], or empty: nothing is erased
  NormaliseProblem problem;  // but for the three above
  at::Tensor pixels;         // contiguous; keeps the problem's pointers alive
  at::Tensor out;            // [B, C, S, S]

  explicit NormalisePlan(const NormaliseArguments& arguments);
};

}  // namespace comba::kernels::image
