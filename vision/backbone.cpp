#include "vision/backbone.h"

#include "vision/base/error.h"
#include "vision/nn/mixer.h"
#include "vision/nn/recompute.h"
#include "vision/token_sequence.h"

#include <cmath>

#include <ATen/ops/cat.h>
#include <ATen/ops/upsample_bicubic2d.h>
#include <ATen/ops/zeros.h>
#include <torch/nn/modules/container/modulelist.h>

namespace comba::vision {
namespace {

// [B, N + 1, d] -> [B, N, d]
torch::Tensor without_class_token(const torch::Tensor& x, int64_t at) {
  const torch::Tensor behind = x.narrow(1, at + 1, x.size(1) - 1 - at);
  return at == 0 ? behind : at::cat({x.narrow(1, 0, at), behind}, 1);
}

// Linear from 0 at the first block to config.drop_path at the last.
double drop_path_of_block(const BackboneConfig& config, int64_t block) {
  return config.depth > 1 ? config.drop_path * static_cast<double>(block) / (config.depth - 1)
                          : 0.0;
}

}  // namespace

void declare(ConfigTable& table, BackboneConfig& c) {
  const std::vector<std::string>& mixers = mixer_names();
  table.add("model.image_size", &c.image_size, "side of the square input, px", {1, 16384});
  table.add("model.patch_size", &c.patch_size, "side of a patch, px; divides image_size",
            {1, 1024});
  table.add("model.in_channels", &c.in_channels, "3 for colour, 1 for grey", {1, 3});
  table.add("model.width", &c.width, "channels of a token, d", {1, 16384});
  table.add("model.depth", &c.depth, "blocks", {1, 1024});
  table.add("model.head_dim", &c.head_dim,
            "channels of a head; divides width; CUDA: 16, 32, 64, 128", {1, 1024});
  table.add("model.mlp_ratio", &c.mlp_ratio, "hidden width of the MLP over width; 0: no MLP",
            {0, 64});
  table.add("model.drop_path", &c.drop_path, "stochastic depth of the last block, linear from 0",
            {0, 0.99});
  table.add_choice("model.mixer", &c.mixer, mixers, "token mixer of every block");
  table.add_choice("model.mixers", &c.mixers, mixers,
                   "token mixer of each block, for hybrids, repeated if shorter than depth; empty: "
                   "`mixer`");
  table.add_choice("model.norm", &c.norm, {"rms", "layer"}, "normalisation of the blocks");
  table.add("model.norm_eps", &c.norm_eps, "added to the variance", {0, 1});
  table.add_choice("model.pool", &c.pool, {"mean", "cls", "middle_cls"},
                   "features: mean of the tokens, or a class token in front of or amid them");
  table.add_choice("model.position", &c.position, {"none", "learned"}, "position embedding");
  table.add("model.qkv_bias", &c.qkv_bias, "softmax, agent: biases of qkv and proj");
  table.add("model.mlp_bias", &c.mlp_bias, "biases of the MLP");
  table.add("model.recompute", &c.recompute,
            "training keeps nothing but the blocks' inputs and computes the rest again for the "
            "gradients: less memory for more time");
  table.add("model.agents", &c.agents, "agent: agent tokens, a square number", {1, 4096});
  table.add("model.inner_width", &c.inner_width,
            "comba: channels of q, k and v each, a multiple of head_dim; 0: width", {0, 65536});
  table.add_choice("model.form", &c.form, {"splr", "iplr"},
                   "comba: feedback before (splr) or after (iplr) decay");
  table.add_choice("model.directions", &c.directions, {"both", "forward"},
                   "comba: scan directions");
  table.add_choice("model.merge", &c.merge, {"mean", "sum", "concat"},
                   "comba: how both directions join; concat: side by side into a wider o_proj");
  table.add("model.fused_mixer", &c.fused_mixer,
            "comba: convolution, norms and gate in one operator with the scan (false: in many)");
  table.add_choice("model.conv", &c.conv, {"per_direction", "shared", "none"},
                   "comba: short convolutions of q, k, v");
  table.add("model.conv_size", &c.conv_size, "comba: taps of the short convolutions", {1, 64});
  table.add("model.gate_rank", &c.gate_rank,
            "comba: rank of the output gate; -1: width / 8, 0: no gate, width: full", {-1, 16384});
  table.add("model.output_correction", &c.output_correction, "comba: learn d in q - d k");
  table.add("model.output_correction_init", &c.output_correction_init, "comba: initial d",
            {-10, 10});
  table.add("model.feedback_scale", &c.feedback_scale, "comba: learn b in c = b beta");
  table.add("model.feedback", &c.feedback, "comba: f in c = f b beta; 0: 1 for splr, 2 for iplr",
            {0, 2});
  table.add("model.alpha_near_one", &c.alpha_near_one, "comba: initialise the decay near 1");
  table.add("model.qk_norm", &c.qk_norm, "comba: L2 norm of q and k");
}

void validate(const BackboneConfig& c) {
  const auto require = [](bool holds, const std::string& message) {
    if (!holds) {
      throw UsageError(message);
    }
  };
  require(c.image_size % c.patch_size == 0,
          fmt::format("model.patch_size = {}: expected a divisor of model.image_size = {}",
                      c.patch_size, c.image_size));
  require(c.width % c.head_dim == 0,
          fmt::format("model.head_dim = {}: expected a divisor of model.width = {}", c.head_dim,
                      c.width));
  require(
      static_cast<int64_t>(c.mixers.size()) <= c.depth,
      fmt::format("model.mixers: expected at most one name for each of model.depth = {} blocks, "
                  "got {}",
                  c.depth, c.mixers.size()));
  require(c.scan_width() % c.head_dim == 0,
          fmt::format("model.inner_width = {}: expected a multiple of model.head_dim = {}",
                      c.inner_width, c.head_dim));
  require(c.merge != "concat" || c.directions == "both",
          fmt::format("model.merge = \"concat\": expected model.directions = \"both\", got \"{}\"",
                      c.directions));
  const auto side = static_cast<int64_t>(std::sqrt(static_cast<double>(c.agents)));
  require(side * side == c.agents,
          fmt::format("model.agents = {}: expected a square number", c.agents));
  for (int64_t block = 0; block < c.depth; ++block) {
    require(c.mixer_of(block) != "agent" || c.pool != "middle_cls",
            "model.pool = \"middle_cls\": model.mixer = \"agent\" expects \"cls\" or \"mean\"");
  }
  require(
      c.gate_rank <= c.width,
      fmt::format("model.gate_rank = {}: expected at most model.width = {}", c.gate_rank, c.width));
  require(c.in_channels == 1 || c.in_channels == 3,
          fmt::format("model.in_channels = {}: expected 1 or 3", c.in_channels));
}

BlockImpl::BlockImpl(const BackboneConfig& config, const std::string& mixer_name,
                     double drop_path_rate)
    : norm1_(register_module("norm1", Norm(config.norm, config.width, config.norm_eps))),
      mixer_(make_mixer(mixer_name, config)),
      drop_path_rate_(drop_path_rate) {
  if (config.mlp_ratio > 0) {
    norm2_ = register_module("norm2", Norm(config.norm, config.width, config.norm_eps));
    const auto hidden = static_cast<int64_t>(config.mlp_ratio * static_cast<double>(config.width));
    mlp_ = register_module("mlp", Mlp(config.width, hidden, config.mlp_bias));
  }
  register_module(mixer_->module_name(), mixer_);
}

void BlockImpl::forward(TokenStream& stream, int64_t prefix, bool again) {
  const auto draw = [&] {
    return draw_share(stream.sum.size(0), drop_path_rate_, is_training(),
                      stream.sum.options().dtype(torch::kFloat).requires_grad(false));
  };
  const torch::Tensor mixed = draw(), share = mlp_.is_empty() ? mixed : draw();
  std::vector<torch::Tensor> after;
  if (again) {
    after = recompute(
        [this, mixed, prefix](const std::vector<torch::Tensor>& before) {
          return compute({before[0], before[1], before[2]}, mixed, prefix);
        },
        {stream.sum, stream.branch, stream.share}, parameters());
  } else {
    after = compute(std::move(stream), mixed, prefix);
  }
  stream = {after[0], after[1], share};
}

std::vector<torch::Tensor> BlockImpl::compute(TokenStream stream, const torch::Tensor& mixed,
                                              int64_t prefix) {
  stream.branch = mixer_->forward(norm1_->take(stream), prefix);
  if (mlp_.is_empty()) {
    return {stream.sum, stream.branch};
  }
  stream.share = mixed;
  const torch::Tensor branch = mlp_(norm2_->take(stream));
  return {stream.sum, branch};
}

BackboneImpl::BackboneImpl(const BackboneConfig& config) : config_(config) {
  validate(config);
  patch_embed_ = register_module("patch_embed",
                                 PatchEmbed(config.in_channels, config.width, config.patch_size));
  int64_t tokens = config.patches();
  if (config.has_class_token()) {
    cls_token_ = register_parameter("cls_token", at::zeros({1, 1, config.width}));
    truncated_normal_(cls_token_, 0.02);
    ++tokens;
  }
  if (config.position == "learned") {
    pos_embed_ = register_parameter("pos_embed", at::zeros({1, tokens, config.width}));
    truncated_normal_(pos_embed_, 0.02);
  }
  torch::nn::ModuleList list;
  for (int64_t i = 0; i < config.depth; ++i) {
    blocks_.emplace_back(config, config.mixer_of(i), drop_path_of_block(config, i));
    list->push_back(blocks_.back());
  }
  register_module("blocks", list);
  norm_ = register_module("norm", Norm(config.norm, config.width, config.norm_eps));
}

torch::Tensor BackboneImpl::encode(const torch::Tensor& images) {
  TORCH_CHECK(images.dim() == 4 && images.size(1) == config_.in_channels &&
                  images.size(2) == config_.image_size && images.size(3) == config_.image_size,
              "backbone: images: expected [B, ", config_.in_channels, ", ", config_.image_size,
              ", ", config_.image_size, "] (model.in_channels, model.image_size), got ",
              images.sizes());
  torch::Tensor x = patch_embed_(images);
  if (cls_token_.defined()) {
    const int64_t at = config_.class_token_at();
    const torch::Tensor token = cls_token_.to(x.scalar_type()).expand_as(x.narrow(1, 0, 1));
    x = at == 0 ? at::cat({token, x}, 1)
                : at::cat({x.narrow(1, 0, at), token, x.narrow(1, at, x.size(1) - at)}, 1);
  }
  if (pos_embed_.defined()) {
    x = x + pos_embed_;
  }
  return run_blocks(x, /*prefix=*/0);
}

torch::Tensor BackboneImpl::run_blocks(torch::Tensor x, int64_t prefix) {
  return vision::run_blocks(*this, std::move(x), prefix);
}

torch::Tensor BackboneImpl::positions(int64_t side) const {
  if (!pos_embed_.defined()) {
    return {};
  }
  const int64_t own = config_.image_size / config_.patch_size;
  torch::Tensor learned =
      cls_token_.defined() ? without_class_token(pos_embed_, config_.class_token_at()) : pos_embed_;
  if (side == own) {
    return learned;
  }
  const torch::Tensor grid = learned.transpose(1, 2).unflatten(2, {own, own});
  return at::upsample_bicubic2d(grid, {side, side}, /*align_corners=*/false)
      .flatten(2)
      .transpose(1, 2);
}

torch::Tensor BackboneImpl::forward_sequence(const std::vector<torch::Tensor>& images,
                                             int64_t prefix_images) {
  int64_t prefix = 0;
  std::vector<torch::Tensor> tokens;
  for (const torch::Tensor& x : images) {
    tokens.push_back(embed_patches(*this, x));
    if (static_cast<int64_t>(tokens.size()) <= prefix_images) {
      prefix += tokens.back().size(1);
    }
  }
  return run_blocks(at::cat(tokens, 1), prefix);
}

torch::Tensor BackboneImpl::forward(const torch::Tensor& images) {
  const torch::Tensor tokens = encode(images);
  return cls_token_.defined() ? tokens.select(1, config_.class_token_at()) : tokens.mean(1);
}

torch::Tensor BackboneImpl::forward_tokens(const torch::Tensor& images) {
  const torch::Tensor tokens = encode(images);
  return cls_token_.defined() ? without_class_token(tokens, config_.class_token_at()) : tokens;
}

}  // namespace comba::vision
