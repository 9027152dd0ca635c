// The products of a Comba mixer's input, as one function: its backward pass adds up the input's gradient within the
// products instead of afterwards.
#pragma once

#include <torch/types.h>

namespace comba::vision {

struct Projected {
  torch::Tensor rows;  // x of the first weight, in x's dtype
  torch::Tensor gate;  // of the second; undefined without one
  torch::Tensor raw;   // of the third, in fp32 (fp64 for an fp64 x) whatever x's dtype
};

// x: [B, T, d]; weights: [n_i, d], the second may be undefined -> [B, T, n_i]
Projected project(const torch::Tensor& x, const torch::Tensor& rows, const torch::Tensor& gate,
                  const torch::Tensor& raw);

}  // namespace comba::vision
