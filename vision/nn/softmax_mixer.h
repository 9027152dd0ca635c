// Multi-head softmax attention with timm's parameter names (qkv, proj).
#pragma once

#include "vision/nn/mixer.h"

#include <torch/nn/modules/linear.h>

namespace comba::vision {

class SoftmaxMixer : public Mixer {
 public:
  explicit SoftmaxMixer(const BackboneConfig& config);
  torch::Tensor forward(const torch::Tensor& x) override;
  std::string module_name() const override { return "attn"; }

  torch::nn::Linear qkv{nullptr};  // rows q | k | v, each head-major
  torch::nn::Linear proj{nullptr};

 private:
  int64_t heads_;
};

}  // namespace comba::vision
