#include "tracking/network.h"

#include "tracking/network_parts.h"
#include "vision/base/error.h"
#include "vision/token_sequence.h"

#include <ATen/ops/cat.h>

namespace comba::tracking {

NetworkImpl::NetworkImpl(const NetworkConfig& config) : config_(config) {
  if (config.templates < 1 || config.templates > 2 ||
      config.template_size % config.backbone.patch_size != 0 || config.head_width % 8 != 0) {
    throw UsageError(fmt::format(
        "the tracker's network: expected 1 or 2 templates of a multiple of {} px and a head of a "
        "multiple of 8 channels, got {} of {} px and {}",
        config.backbone.patch_size, config.templates, config.template_size, config.head_width));
  }
  backbone_ = register_module("backbone", vision::Backbone(config.backbone));
  head_ = register_module("head", CenterHead(config.backbone.width, config.head_width));
}

CenterMaps NetworkImpl::forward(const torch::Tensor& templates, const torch::Tensor& search) {
  return find_target(*this, embed_templates(*this, templates), search);
}

torch::Tensor embed_templates(const NetworkImpl& network, const torch::Tensor& templates) {
  const NetworkConfig& config = network.config();
  TORCH_CHECK(templates.dim() == 5 && templates.size(1) == config.templates &&
                  templates.size(3) == config.template_size,
              "tracker: templates: expected [B, ", config.templates, ", C, ", config.template_size,
              ", ", config.template_size, "], got ", templates.sizes());
  std::vector<torch::Tensor> tokens;
  for (int64_t n = 0; n < config.templates; ++n) {
    tokens.push_back(vision::embed_patches(*network.backbone(), templates.select(1, n)));
  }
  return at::cat(tokens, 1);
}

CenterMaps find_target(const NetworkImpl& network, const torch::Tensor& template_tokens,
                       const torch::Tensor& search) {
  const NetworkConfig& config = network.config();
  TORCH_CHECK(search.dim() == 4 && search.size(2) == config.backbone.image_size,
              "tracker: search: expected images of ", config.backbone.image_size, " px, got ",
              search.sizes());
  const torch::Tensor tokens = vision::run_blocks(
      *network.backbone(),
      at::cat({template_tokens, vision::embed_patches(*network.backbone(), search)}, 1),
      config.asymmetric ? template_tokens.size(1) : 0);
  const int64_t cells = config.cells(), own = cells * cells;
  const torch::Tensor map = tokens.narrow(1, tokens.size(1) - own, own).transpose(1, 2);
  return CenterHead(network.head())->forward(map.unflatten(2, {cells, cells}));
}

}  // namespace comba::tracking
