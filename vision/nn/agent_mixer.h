// Agent attention (arXiv 2312.08874) as in Agent-DeiT: a few agent tokens, pooled from the queries' grid of patches, read all
// tokens, and all tokens read the agents; patches besides pass a depthwise convolution of their values.
//
//   a = pool(q of the patches);   v' = softmax(a k^T / sqrt(head_dim) + bias) v
//   y = softmax(q a^T / sqrt(head_dim) + bias') v' + dwc(v of the patches)
//
// Each bias is the sum of one per head, agent and cell of a 7 x 7 grid, resized bilinearly to that of the patches, and of one
// each per row and column of theirs; a class token has its own. Parameter names are those of Agent-DeiT's checkpoints.
//
// Of a tracker's sequence every image has agents of its own, pooled from its own grid, and its own pass of the convolution. All
// agents read the tokens of all images, and all tokens the agents of all. A bias stands between an image's agents and its own
// tokens alone, between images it is 0; to a template's grid the rows' and columns' are resized bilinearly as well. With a prefix
// the templates' agents read the templates' tokens alone, and those read no other agents: the search image's agents still
// read all tokens, its tokens all agents.
#pragma once

#include "vision/nn/mixer.h"

#include <string_view>
#include <vector>

#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

namespace comba::vision {

class AgentMixer : public Mixer {
 public:
  explicit AgentMixer(const BackboneConfig& config);
  // Takes the tokens of one image of the configuration's size, class token first if there is one; or, without class token, of
  // one image or two of one size and then of one of the configuration's, of which all but the last may be the prefix. Throws
  // c10::Error naming what it got.
  torch::Tensor forward(const torch::Tensor& x, int64_t prefix = 0) override;
  std::string module_name() const override { return "attn"; }

  torch::nn::Linear qkv{nullptr};  // rows q | k | v, each head-major
  torch::nn::Linear proj{nullptr};
  torch::nn::Conv2d dwc{nullptr};  // 3 x 3
  torch::Tensor an_bias, na_bias;  // [H, A, 7, 7] of agents that read and of agents that are read
  torch::Tensor ah_bias, aw_bias;  // [1, H, A, side, 1], [1, H, A, 1, side]
  torch::Tensor ha_bias, wa_bias;  // [1, H, side, 1, A], [1, H, 1, side, A]
  torch::Tensor ac_bias, ca_bias;  // [1, H, A, 1], [1, H, 1, A]; undefined without a class token

 private:
  struct Images;  // of a sequence
  struct Read;    // what tokens read of those before them

  Images images_of(int64_t tokens, int64_t prefix) const;
  // Of the tokens of some images, q, k, v [B, n, d], -> [B, n, d]; `read` gets what these add to it.
  torch::Tensor mixed(const std::vector<torch::Tensor>& rows, const Images& images,
                      Read& read) const;
  // Both between the agents and the tokens of one image.
  torch::Tensor agents_bias(const Images& images, int64_t side) const;  // [1, H, A, n]
  torch::Tensor tokens_bias(const Images& images, int64_t side) const;  // [1, H, n, A]
  torch::Tensor by_head(const torch::Tensor& x) const;  // [B, n, d] -> [B, H, n, head_dim]

  int64_t heads_, agents_, side_, class_tokens_;
};

// Whether a parameter of that name ("blocks.0.attn.ah_bias") has one value per row or column of the patches' grid.
bool is_grid_bias(std::string_view parameter);
// It, resized bilinearly to `sizes`, its shape for another grid.
torch::Tensor resized_grid_bias(std::string_view parameter, const torch::Tensor& bias,
                                at::IntArrayRef sizes);

}  // namespace comba::vision
