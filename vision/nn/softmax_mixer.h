// Multi-head softmax attention with timm's parameter names (qkv, proj).
#pragma once

#include "vision/nn/mixer.h"

#include <torch/nn/modules/linear.h>

namespace comba::vision {

// qkv [B, T, 3 d], rows q | k | v, each head-major -> [B, T, d]; `prefix` as Mixer::forward().
torch::Tensor attend(const torch::Tensor& qkv, int64_t heads, int64_t prefix);

class SoftmaxMixer : public Mixer {
 public:
  explicit SoftmaxMixer(const BackboneConfig& config);
  torch::Tensor forward(const torch::Tensor& x, int64_t prefix = 0) override;
  std::unique_ptr<PreparedMixer> prepare(const at::TensorOptions& options, bool prefixed) override;
  std::string module_name() const override { return "attn"; }

  torch::nn::Linear qkv{nullptr};  // rows q | k | v, each head-major
  torch::nn::Linear proj{nullptr};

 private:
  int64_t heads_;
};

}  // namespace comba::vision
