// The one-stream tracker: the patches of the templates and of the search image are one sequence, templates first, through any
// backbone and mixer; the search tokens of the last layer are the centre head's map (OSTrack 33b5e12, without its candidate
// elimination).
#pragma once

#include "tracking/head.h"
#include "vision/backbone.h"

namespace comba::tracking {

struct NetworkConfig {
  vision::BackboneConfig backbone;  // its image_size is the search image's
  int64_t template_size = 128;      // px
  int64_t templates = 1;            // 1 or 2
  int64_t head_width = 256;         // channels of the head's first layer
  bool asymmetric =
      false;  // the templates' tokens never read the search image's: computed once a video

  int64_t cells() const { return backbone.image_size / backbone.patch_size; }
};

class NetworkImpl : public torch::nn::Module {
 public:
  explicit NetworkImpl(const NetworkConfig& config);
  // templates [B, n, C, S_t, S_t], search [B, C, S, S], both normalised
  CenterMaps forward(const torch::Tensor& templates, const torch::Tensor& search);
  const NetworkConfig& config() const { return config_; }
  const vision::Backbone& backbone() const { return backbone_; }
  const CenterHead& head() const { return head_; }

 private:
  NetworkConfig config_;
  vision::Backbone backbone_{nullptr};
  CenterHead head_{nullptr};
};
TORCH_MODULE(Network);

}  // namespace comba::tracking
