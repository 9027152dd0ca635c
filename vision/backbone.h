// Patch embedding -> blocks (norm, mixer, norm, MLP) -> norm -> pooled features or a token map.
#pragma once

#include "vision/base/config.h"
#include "vision/nn/layers.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <torch/nn/cloneable.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

namespace comba::vision {

// Every choice of the Comba layout is a key; the defaults are Comba-T.
struct BackboneConfig {
  int64_t image_size = 224;  // px, square
  int64_t patch_size = 16;   // px
  int64_t in_channels = 3;
  int64_t width = 192;  // d
  int64_t depth = 12;
  int64_t head_dim = 64;        // Dk = Dv
  double mlp_ratio = 4.0;       // 0: blocks of a mixer alone
  double drop_path = 0.0;       // rate of the last block; linear from 0
  std::string mixer = "comba";  // see vision/nn/mixer.h
  std::vector<std::string> mixers =
      {};                    // of each block, repeated (hybrid); empty: `mixer` everywhere
  std::string norm = "rms";  // rms | layer
  double norm_eps = 1e-6;
  std::string pool = "mean";      // mean | cls | middle_cls
  std::string position = "none";  // none | learned
  bool qkv_bias = false;  // biases of qkv and proj in the softmax and agent mixers (DeiT: true)
  bool mlp_bias = false;
  bool recompute = false;  // training keeps the blocks' inputs only, see nn/recompute.h
  int64_t agents = 49;     // agent mixer: agent tokens, a square number
  // Comba mixer
  int64_t inner_width = 0;          // channels of q, k, v each; 0: width
  std::string form = "splr";        // splr | iplr
  std::string directions = "both";  // both | forward
  std::string merge = "mean";       // mean | sum | concat
  bool fused_mixer =
      true;  // one operator around the scan where it applies; false: many, for comparison
  std::string conv = "per_direction";  // per_direction | shared | none
  int64_t conv_size = 4;               // taps
  int64_t gate_rank = -1;              // output gate: -1 = d/8, 0 = no gate, d = full
  bool output_correction = true;
  double output_correction_init = 0.02;
  bool feedback_scale = true;  // learned b (sigmoid of a parameter per head)
  double feedback = 0;         // f in c = f b beta; 0: 1 for splr, 2 for iplr
  bool alpha_near_one = true;  // A_log, dt_bias initialised so that alpha is near 1
  bool qk_norm = true;         // L2 norm of q and k, eps inside the root

  int64_t heads() const { return width / head_dim; }
  int64_t scan_width() const { return inner_width > 0 ? inner_width : width; }
  int64_t patches() const { return (image_size / patch_size) * (image_size / patch_size); }
  bool has_class_token() const { return pool != "mean"; }
  int64_t class_token_at() const { return pool == "middle_cls" ? patches() / 2 : 0; }
  const std::string& mixer_of(int64_t block) const {
    return mixers.empty() ? mixer : mixers[static_cast<size_t>(block) % mixers.size()];
  }
};

// Registers the keys under "model." in the table.
void declare(ConfigTable& table, BackboneConfig& config);
// Throws UsageError naming the two keys that contradict each other.
void validate(const BackboneConfig& config);

class Mixer;

// x + drop_path(mixer(norm1(x))), then x + drop_path(mlp(norm2(x))) unless mlp_ratio = 0.
class BlockImpl : public torch::nn::Module {
 public:
  BlockImpl(const BackboneConfig& config, const std::string& mixer_name, double drop_path_rate);
  // `prefix` as Mixer::forward(); `again`: the backward pass computes it again instead of keeping what it needs.
  void forward(TokenStream& stream, int64_t prefix = 0, bool again = false);

  const Norm& norm1() const { return norm1_; }
  const Norm& norm2() const { return norm2_; }  // empty without an MLP, as is that
  Mixer& mixer() const { return *mixer_; }
  const Mlp& mlp() const { return mlp_; }

 private:
  // From the stream before the block: its sum and the last branch. `mixed`: the share of the mixer's branch.
  std::vector<torch::Tensor> compute(TokenStream stream, const torch::Tensor& mixed,
                                     int64_t prefix);
  Norm norm1_{nullptr}, norm2_{nullptr};
  std::shared_ptr<Mixer> mixer_;
  Mlp mlp_{nullptr};
  double drop_path_rate_;
};
TORCH_MODULE(Block);

class BackboneImpl : public torch::nn::Module {
 public:
  explicit BackboneImpl(const BackboneConfig& config);
  // images: [B, C, S, S] fp32 (normalised) -> pooled features [B, d]
  torch::Tensor forward(const torch::Tensor& images);
  // -> [B, N, d] patch tokens after the last norm (class token, if any, removed)
  torch::Tensor forward_tokens(const torch::Tensor& images);
  // Several images [B, C, S_i, S_i] as one sequence, one after the other: [B, sum of N_i, d] patch tokens after the last
  // norm, without class token. Sides may be any multiple of the patch size; learned positions are resized to them.
  // The tokens of the first `prefix_images` images never read those behind them.
  torch::Tensor forward_sequence(const std::vector<torch::Tensor>& images,
                                 int64_t prefix_images = 0);
  const BackboneConfig& config() const { return config_; }

  const PatchEmbed& patch_embed() const { return patch_embed_; }
  torch::Tensor positions(int64_t side) const;  // [1, side^2, d] of patches, or undefined
  const std::vector<Block>& blocks() const { return blocks_; }
  const Norm& norm() const { return norm_; }

 private:
  torch::Tensor encode(const torch::Tensor& images);  // [B, N (+ 1), d] with the class token
  torch::Tensor run_blocks(torch::Tensor x, int64_t prefix);

  BackboneConfig config_;
  PatchEmbed patch_embed_{nullptr};
  torch::Tensor cls_token_;  // [1, 1, d], pool = "cls" or "middle_cls"
  torch::Tensor pos_embed_;  // [1, N (+ 1), d], position = "learned"
  std::vector<Block> blocks_;
  Norm norm_{nullptr};
};
TORCH_MODULE(Backbone);

}  // namespace comba::vision
