#include "tracking/network.h"

#include "vision/base/error.h"

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
  TORCH_CHECK(templates.dim() == 5 && templates.size(1) == config_.templates &&
                  templates.size(3) == config_.template_size &&
                  search.size(2) == config_.backbone.image_size,
              "tracker: templates: expected [B, ", config_.templates, ", C, ",
              config_.template_size, ", ", config_.template_size, "] and search images of ",
              config_.backbone.image_size, " px, got ", templates.sizes(), " and ", search.sizes());
  std::vector<torch::Tensor> images;
  for (int64_t n = 0; n < config_.templates; ++n) {
    images.push_back(templates.select(1, n));
  }
  images.push_back(search);
  const torch::Tensor tokens =
      backbone_->forward_sequence(images, config_.asymmetric ? config_.templates : 0);
  const int64_t cells = config_.cells(), own = cells * cells;
  const torch::Tensor map = tokens.narrow(1, tokens.size(1) - own, own).transpose(1, 2);
  return head_->forward(map.unflatten(2, {cells, cells}));
}

}  // namespace comba::tracking
