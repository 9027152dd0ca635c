// The taps of kernels::causal_conv as a module.
#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

namespace comba::vision {

// Holds the taps under the name "weight", [C, 1, taps], as fla's short convolutions.
class ShortConvImpl : public torch::nn::Module {
 public:
  ShortConvImpl(int64_t channels, int64_t taps);
  torch::Tensor weight;
};
TORCH_MODULE(ShortConv);

}  // namespace comba::vision
