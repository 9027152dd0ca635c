#include "vision/nn/softmax_mixer.h"

#include "vision/nn/layers.h"

#include <ATen/ops/scaled_dot_product_attention.h>

namespace comba::vision {

SoftmaxMixer::SoftmaxMixer(const BackboneConfig& config)
    : qkv(register_module("qkv", make_linear(config.width, 3 * config.width, config.qkv_bias))),
      proj(register_module("proj", make_linear(config.width, config.width, config.qkv_bias))),
      heads_(config.heads()) {}

torch::Tensor SoftmaxMixer::forward(const torch::Tensor& x) {
  const int64_t batch = x.size(0), length = x.size(1), width = x.size(2);
  // [B, T, 3d] -> three of [B, H, T, head_dim]
  const auto parts =
      qkv(x).view({batch, length, 3, heads_, width / heads_}).permute({2, 0, 3, 1, 4}).unbind(0);
  const torch::Tensor mixed = at::scaled_dot_product_attention(parts[0], parts[1], parts[2]);
  return proj(mixed.transpose(1, 2).reshape({batch, length, width}));
}

}  // namespace comba::vision
