// Less memory for more time: what a part of the model computes is computed again in the backward pass instead of kept
// (activation checkpointing, Chen et al., arXiv 1604.06174).
#pragma once

#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::vision {

// Of tensors, some of which may be undefined; must draw nothing at random, as it runs twice.
using TensorFunction = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>;

// function(inputs), of which nothing but `inputs` is kept for the backward pass. `parameters`: what else the function reads and
// gradients are wanted of. Both passes run under the autocast that is on now.
std::vector<at::Tensor> recompute(TensorFunction function, const std::vector<at::Tensor>& inputs,
                                  const std::vector<at::Tensor>& parameters);

}  // namespace comba::vision
