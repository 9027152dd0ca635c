#include "vision/nn/softmax_mixer.h"

#include "vision/nn/layers.h"
#include "vision/nn/linear.h"
#include "vision/nn/prepared_softmax.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/scaled_dot_product_attention.h>

namespace comba::vision {

SoftmaxMixer::SoftmaxMixer(const BackboneConfig& config)
    : qkv(register_module("qkv", make_linear(config.width, 3 * config.width, config.qkv_bias))),
      proj(register_module("proj", make_linear(config.width, config.width, config.qkv_bias))),
      heads_(config.heads()) {}

torch::Tensor attend(const torch::Tensor& qkv, int64_t heads, int64_t prefix) {
  const int64_t length = qkv.size(1), width = qkv.size(2) / 3;
  // [B, T, 3d] -> three of [B, H, T, head_dim]
  const auto parts = qkv.unflatten(2, {3, heads, width / heads}).permute({2, 0, 3, 1, 4}).unbind(0);
  const auto attention = [&](int64_t first, int64_t queries, int64_t keys) {
    return at::scaled_dot_product_attention(parts[0].narrow(2, first, queries),
                                            parts[1].narrow(2, 0, keys),
                                            parts[2].narrow(2, 0, keys));
  };
  const torch::Tensor mixed =
      prefix == 0
          ? at::scaled_dot_product_attention(parts[0], parts[1], parts[2])
          : at::cat({attention(0, prefix, prefix), attention(prefix, length - prefix, length)}, 2);
  return mixed.transpose(1, 2).flatten(2);
}

torch::Tensor SoftmaxMixer::forward(const torch::Tensor& x, int64_t prefix) {
  return linear_with_bias(proj, attend(linear_with_bias(qkv, x), heads_, prefix));
}

std::unique_ptr<PreparedMixer> SoftmaxMixer::prepare(const at::TensorOptions& options, bool) {
  return prepare_softmax(*this, heads_, options);
}

}  // namespace comba::vision
