#include "vision/nn/agent_mixer.h"

#include "vision/nn/layers.h"
#include "vision/nn/linear.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/adaptive_avg_pool2d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/upsample_bilinear2d.h>
#include <ATen/ops/upsample_linear1d.h>
#include <ATen/ops/zeros.h>

namespace comba::vision {
namespace {

constexpr int64_t kCoarse = 7;  // side of the grid of the resized biases

torch::Tensor resized(const torch::Tensor& bias, int64_t height, int64_t width) {
  return at::upsample_bilinear2d(bias, {height, width}, /*align_corners=*/false);
}

// The same from [H, A, 7, 7] as two products: its own gradient on CUDA is summed up in any order.
torch::Tensor refined(const torch::Tensor& bias, int64_t side) {
  const torch::Tensor unit = at::eye(kCoarse, bias.options().requires_grad(false)).unsqueeze(0);
  const torch::Tensor shares =  // [7, side]
      at::upsample_linear1d(unit, {side}, /*align_corners=*/false).squeeze(0);
  return at::matmul(at::matmul(shares.t(), bias), shares);
}

}  // namespace

AgentMixer::AgentMixer(const BackboneConfig& config)
    : qkv(register_module("qkv", make_linear(config.width, 3 * config.width, config.qkv_bias))),
      proj(register_module("proj", make_linear(config.width, config.width, config.qkv_bias))),
      dwc(register_module("dwc",
                          torch::nn::Conv2d(torch::nn::Conv2dOptions(config.width, config.width, 3)
                                                .padding(1)
                                                .groups(config.width)))),
      heads_(config.heads()),
      agents_(config.agents),
      side_(config.image_size / config.patch_size),
      first_(config.has_class_token() ? 1 : 0) {
  const auto bias = [this](const char* name, at::IntArrayRef sizes) {
    const torch::Tensor values = register_parameter(name, at::zeros(sizes));
    truncated_normal_(values, 0.02);
    return values;
  };
  an_bias = bias("an_bias", {heads_, agents_, kCoarse, kCoarse});
  na_bias = bias("na_bias", {heads_, agents_, kCoarse, kCoarse});
  ah_bias = bias("ah_bias", {1, heads_, agents_, side_, 1});
  aw_bias = bias("aw_bias", {1, heads_, agents_, 1, side_});
  ha_bias = bias("ha_bias", {1, heads_, side_, 1, agents_});
  wa_bias = bias("wa_bias", {1, heads_, 1, side_, agents_});
  if (first_ > 0) {
    ac_bias = bias("ac_bias", {1, heads_, agents_, 1});
    ca_bias = bias("ca_bias", {1, heads_, 1, agents_});
  }
}

torch::Tensor AgentMixer::agents_bias() const {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const torch::Tensor grid =
      (refined(an_bias, side_) + (ah_bias + aw_bias).squeeze(0)).flatten(2).unsqueeze(0);
  return ac_bias.defined() ? at::cat({ac_bias, grid}, 3) : grid;
}

torch::Tensor AgentMixer::tokens_bias() const {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const torch::Tensor coarse = refined(na_bias, side_).flatten(2).transpose(1, 2).unsqueeze(0);
  const torch::Tensor grid = coarse + (ha_bias + wa_bias).flatten(2, 3);
  return ca_bias.defined() ? at::cat({ca_bias, grid}, 2) : grid;
}

torch::Tensor AgentMixer::patches(const torch::Tensor& x) const {
  return x.narrow(1, first_, side_ * side_).transpose(1, 2).unflatten(2, {side_, side_});
}

torch::Tensor AgentMixer::forward(const torch::Tensor& x, int64_t prefix) {
  TORCH_CHECK(prefix == 0 && x.size(1) == first_ + side_ * side_, "agent mixer: expected the ",
              first_ + side_ * side_, " tokens of one image (", side_, " x ", side_, " patches",
              first_ > 0 ? " and a class token" : "", ") and no prefix, got ", x.size(1),
              " tokens with a prefix of ", prefix,
              "; sequences of several images need another model.mixer");
  const auto rows = linear_with_bias(qkv, x).unflatten(2, {3, -1}).unbind(2);  // q, k, v [B, T, d]
  const auto by_head = [&](const torch::Tensor& y) {  // [B, n, d] -> [B, H, n, head_dim]
    return y.unflatten(2, {heads_, -1}).transpose(1, 2);
  };
  const int64_t pooled = std::llround(std::sqrt(static_cast<double>(agents_)));
  const torch::Tensor q = by_head(rows[0]), k = by_head(rows[1]), v = by_head(rows[2]);
  const torch::Tensor agents = by_head(
      at::adaptive_avg_pool2d(patches(rows[0]), {pooled, pooled}).flatten(2).transpose(1, 2));
  const auto attend = [](const torch::Tensor& from, const torch::Tensor& to,
                         const torch::Tensor& values, const torch::Tensor& bias) {
    return at::scaled_dot_product_attention(from, to, values, bias.to(from.scalar_type()));
  };
  const torch::Tensor gathered = attend(agents, k, v, agents_bias());
  const torch::Tensor mixed = attend(q, agents, gathered, tokens_bias()).transpose(1, 2).flatten(2);
  const torch::Tensor local =
      at::conv2d(patches(rows[2]), dwc->weight, dwc->bias, 1, 1, 1, dwc->weight.size(0))
          .flatten(2)
          .transpose(1, 2);
  const torch::Tensor y = mixed.narrow(1, first_, side_ * side_) + local;
  return linear_with_bias(proj, first_ > 0 ? at::cat({mixed.narrow(1, 0, first_), y}, 1) : y);
}

bool is_grid_bias(std::string_view parameter) {
  const std::string_view leaf = parameter.substr(parameter.rfind('.') + 1);
  return leaf == "ah_bias" || leaf == "aw_bias" || leaf == "ha_bias" || leaf == "wa_bias";
}

torch::Tensor resized_grid_bias(std::string_view parameter, const torch::Tensor& bias,
                                at::IntArrayRef sizes) {
  const bool agents_first = parameter.ends_with("ah_bias") || parameter.ends_with("aw_bias");
  if (agents_first) {
    return resized(bias.squeeze(0), sizes[3], sizes[4]).unsqueeze(0);
  }
  return resized(bias.squeeze(0).permute({0, 3, 1, 2}), sizes[2], sizes[3])
      .permute({0, 2, 3, 1})
      .unsqueeze(0);
}

}  // namespace comba::vision
