#include "vision/nn/agent_mixer.h"

#include "vision/nn/layers.h"
#include "vision/nn/linear.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/adaptive_avg_pool1d.h>
#include <ATen/ops/adaptive_avg_pool2d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
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

// What each of `from` cells has in each of `to`: [from, to].
torch::Tensor linear_shares(int64_t from, int64_t to, const at::TensorOptions& options) {
  const torch::Tensor unit = at::eye(from, options.requires_grad(false)).unsqueeze(0);
  return at::upsample_linear1d(unit, {to}, /*align_corners=*/false).squeeze(0);
}

// [H, A, rows, columns] resized bilinearly to a grid of that side, where there is more than one of them: by products, as the
// gradient of the interpolation itself is summed up in any order on CUDA.
torch::Tensor refined(const torch::Tensor& bias, int64_t side) {
  torch::Tensor y = bias;
  if (y.size(2) > 1 && y.size(2) != side) {
    y = at::matmul(linear_shares(y.size(2), side, y.options()).t(), y);
  }
  if (y.size(3) > 1 && y.size(3) != side) {
    y = at::matmul(y, linear_shares(y.size(3), side, y.options()));
  }
  return y;
}

// [B, d, side, side] -> [B, d, to, to]: means of cells, which overlap where `to` is no divisor. Then by products in fp32, which
// have a gradient of one order on CUDA, and a form in every program.
torch::Tensor pooled(const torch::Tensor& grid, int64_t to) {
  const int64_t side = grid.size(3);
  if (side % to == 0) {
    return at::adaptive_avg_pool2d(grid, {to, to});
  }
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const auto dtype = grid.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const torch::Tensor unit =
      at::eye(side, grid.options().dtype(dtype).requires_grad(false)).unsqueeze(0);
  const torch::Tensor shares = at::adaptive_avg_pool1d(unit, {to}).squeeze(0);  // [side, to]
  return at::matmul(at::matmul(shares.t(), grid.to(dtype)), shares).to(grid.scalar_type());
}

// [B, n, d] of one image -> [B, d, side, side]
torch::Tensor as_grid(const torch::Tensor& tokens, int64_t side) {
  return tokens.transpose(1, 2).unflatten(2, {side, side});
}

torch::Tensor joined(std::vector<torch::Tensor> parts, int64_t dim) {
  std::erase_if(parts, [](const torch::Tensor& part) { return !part.defined(); });
  return parts.size() == 1 ? parts[0] : at::cat(parts, dim);
}

// Zeros around x along its last dimension, which becomes `total` long.
torch::Tensor placed(const torch::Tensor& x, int64_t first, int64_t total) {
  return x.size(-1) == total ? x : at::constant_pad_nd(x, {first, total - first - x.size(-1)});
}

torch::Tensor attend(const torch::Tensor& from, const torch::Tensor& to,
                     const torch::Tensor& values, const torch::Tensor& bias) {
  return at::scaled_dot_product_attention(from, to, values, bias.to(from.scalar_type()));
}

// The side of a square of that many cells; 0 if there is none.
int64_t root_of(int64_t cells) {
  const int64_t side = std::llround(std::sqrt(static_cast<double>(cells)));
  return side * side == cells ? side : 0;
}

}  // namespace

struct AgentMixer::Images {
  int64_t class_tokens;        // in front of the only image
  std::vector<int64_t> sides;  // of their grids
  size_t first = 0;            // those before it have been read already

  int64_t tokens(size_t image) const { return class_tokens + sides[image] * sides[image]; }
  int64_t tokens_before(size_t image) const {
    int64_t sum = 0;
    for (size_t i = 0; i < image; ++i) {
      sum += tokens(i);
    }
    return sum;
  }
};

struct AgentMixer::Read {
  torch::Tensor k, v;              // [B, H, tokens, head_dim]
  torch::Tensor agents, gathered;  // [B, H, A images, head_dim]
};

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
      class_tokens_(config.has_class_token() ? 1 : 0) {
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
  if (class_tokens_ > 0) {
    ac_bias = bias("ac_bias", {1, heads_, agents_, 1});
    ca_bias = bias("ca_bias", {1, heads_, 1, agents_});
  }
}

torch::Tensor AgentMixer::agents_bias(const Images& images, int64_t side) const {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const torch::Tensor lines = refined(ah_bias.squeeze(0), side) + refined(aw_bias.squeeze(0), side);
  const torch::Tensor grid = (refined(an_bias, side) + lines).flatten(2).unsqueeze(0);
  return images.class_tokens > 0 ? at::cat({ac_bias, grid}, 3) : grid;
}

torch::Tensor AgentMixer::tokens_bias(const Images& images, int64_t side) const {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const auto agents_first = [](const torch::Tensor& x) {  // [H, A, rows, columns]
    return x.squeeze(0).permute({0, 3, 1, 2});
  };
  const torch::Tensor lines =
      refined(agents_first(ha_bias), side) + refined(agents_first(wa_bias), side);
  const torch::Tensor grid =
      (refined(na_bias, side) + lines).flatten(2).transpose(1, 2).unsqueeze(0);
  return images.class_tokens > 0 ? at::cat({ca_bias, grid}, 2) : grid;
}

torch::Tensor AgentMixer::by_head(const torch::Tensor& x) const {
  return x.unflatten(2, {heads_, -1}).transpose(1, 2);
}

// A number of patches is a square or twice one, never both.
AgentMixer::Images AgentMixer::images_of(int64_t tokens, int64_t prefix) const {
  const int64_t own = side_ * side_, before = tokens - own;
  if (before == class_tokens_ && prefix == 0) {
    return {class_tokens_, {side_}};
  }
  const int64_t one = before >= 0 ? root_of(before) : 0,
                two = before >= 0 && before % 2 == 0 ? root_of(before / 2) : 0;
  TORCH_CHECK((before == 0 || one > 0 || two > 0) && (prefix == 0 || prefix == before),
              "agent mixer: expected the ", class_tokens_ + own, " tokens of one image (", side_,
              " x ", side_, " patches", class_tokens_ > 0 ? " and a class token" : "",
              "), or in front of its patches those of one square image or two of one size, all of "
              "them the prefix or none, got ",
              tokens, " tokens with a prefix of ", prefix);
  return before == 0 ? Images{0, {side_}}
         : one > 0   ? Images{0, {one, side_}}
                     : Images{0, {two, two, side_}};
}

torch::Tensor AgentMixer::mixed(const std::vector<torch::Tensor>& rows, const Images& images,
                                Read& read) const {
  const int64_t to = root_of(agents_), begin = images.tokens_before(images.first),
                tokens = images.tokens_before(images.sides.size()),
                agents = agents_ * static_cast<int64_t>(images.sides.size());
  std::vector<torch::Tensor> pools, local, reading, being_read;
  for (size_t i = images.first; i < images.sides.size(); ++i) {
    const int64_t side = images.sides[i], first = images.tokens_before(i);
    const auto grid = [&](const torch::Tensor& x) {
      return as_grid(x.narrow(1, first - begin + images.class_tokens, side * side), side);
    };
    pools.push_back(pooled(grid(rows[0]), to).flatten(2).transpose(1, 2));
    local.push_back(at::conv2d(grid(rows[2]), dwc->weight, dwc->bias, 1, 1, 1, dwc->weight.size(0))
                        .flatten(2)
                        .transpose(1, 2));
    reading.push_back(placed(agents_bias(images, side), first, tokens));
    being_read.push_back(
        placed(tokens_bias(images, side), static_cast<int64_t>(i) * agents_, agents));
  }
  read.k = joined({read.k, by_head(rows[1])}, 2);
  read.v = joined({read.v, by_head(rows[2])}, 2);
  const torch::Tensor own = by_head(joined(pools, 1));
  read.gathered = joined({read.gathered, attend(own, read.k, read.v, joined(reading, 2))}, 2);
  read.agents = joined({read.agents, own}, 2);
  const torch::Tensor y =
      attend(by_head(rows[0]), read.agents, read.gathered, joined(being_read, 2))
          .transpose(1, 2)
          .flatten(2);
  const torch::Tensor convolved = joined(local, 1);
  if (images.class_tokens == 0) {
    return y + convolved;
  }
  return at::cat({y.narrow(1, 0, images.class_tokens),
                  y.narrow(1, images.class_tokens, convolved.size(1)) + convolved},
                 1);
}

torch::Tensor AgentMixer::forward(const torch::Tensor& x, int64_t prefix) {
  const Images all = images_of(x.size(1), prefix);
  const auto rows = linear_with_bias(qkv, x).unflatten(2, {3, -1}).unbind(2);  // q, k, v [B, T, d]
  Read read;
  if (prefix == 0) {
    return linear_with_bias(proj, mixed(rows, all, read));
  }
  const auto part = [&](int64_t begin, int64_t end) {
    std::vector<torch::Tensor> cut;
    for (const torch::Tensor& row : rows) {
      cut.push_back(row.narrow(1, begin, end - begin));
    }
    return cut;
  };
  Images templates = all, search = all;
  templates.sides.pop_back();
  search.first = templates.sides.size();
  const torch::Tensor before = mixed(part(0, prefix), templates, read);
  return linear_with_bias(proj, at::cat({before, mixed(part(prefix, x.size(1)), search, read)}, 1));
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
