// Short causal depthwise convolution in scan order.
#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

namespace comba::vision {

// y_t[ch] = sum_j weight[ch, 0, j] x_{t - (taps-1) + j}[ch]; zero before the first token. With `reverse`
// the sequence is read from its other end, so that token t sees t .. t + taps - 1.
// x: [B, T, C] -> [B, T, C]; weight: [C, 1, taps]. Differentiable once.
torch::Tensor causal_conv(const torch::Tensor& x, const torch::Tensor& weight, bool reverse);

// Holds the taps under the name "weight", [C, 1, taps], as fla's short convolutions.
class ShortConvImpl : public torch::nn::Module {
 public:
  ShortConvImpl(int64_t channels, int64_t taps);
  torch::Tensor weight;
};
TORCH_MODULE(ShortConv);

}  // namespace comba::vision
