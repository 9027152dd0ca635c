#include "vision/token_sequence.h"

#include <ATen/core/grad_mode.h>

namespace comba::vision {

torch::Tensor embed_patches(const BackboneImpl& backbone, const torch::Tensor& images) {
  const BackboneConfig& config = backbone.config();
  TORCH_CHECK(images.dim() == 4 && images.size(1) == config.in_channels &&
                  images.size(2) == images.size(3) && images.size(2) > 0 &&
                  images.size(2) % config.patch_size == 0,
              "backbone: images: expected [B, ", config.in_channels,
              ", S, S] with S a multiple of ", config.patch_size, " (model.patch_size), got ",
              images.sizes());
  const torch::Tensor tokens = PatchEmbed(backbone.patch_embed())->forward(images);
  const torch::Tensor positions = backbone.positions(images.size(2) / config.patch_size);
  return positions.defined() ? tokens + positions : tokens;
}

torch::Tensor run_blocks(const BackboneImpl& backbone, torch::Tensor tokens, int64_t prefix) {
  const bool again =
      backbone.config().recompute && backbone.is_training() && at::GradMode::is_enabled();
  return run_blocks(backbone.blocks(), backbone.norm(), std::move(tokens), prefix, again);
}

torch::Tensor run_blocks(const std::vector<Block>& blocks, const Norm& norm, torch::Tensor tokens,
                         int64_t prefix, bool again) {
  TokenStream stream{std::move(tokens), {}, {}};
  for (Block block : blocks) {
    block->forward(stream, prefix, again);
  }
  return Norm(norm)->take(stream);
}

}  // namespace comba::vision
