// A one-stream network that is small enough for a test.
#pragma once

#include "tracking/network.h"

#include <string>

namespace comba::tracking {

inline NetworkConfig tiny_network(const std::string& mixer, int64_t templates = 1,
                                  bool asymmetric = false) {
  NetworkConfig config;
  config.backbone.image_size = 64;
  config.backbone.patch_size = 8;
  config.backbone.width = 32;
  config.backbone.depth = 2;
  config.backbone.head_dim = 16;
  config.backbone.mixer = mixer;
  config.backbone.agents = 9;  // of 8 x 8 and 4 x 4 patches
  config.backbone.position = mixer == "softmax" ? "learned" : "none";
  config.template_size = 32;
  config.templates = templates;
  config.head_width = 32;
  config.asymmetric = asymmetric;
  return config;
}

}  // namespace comba::tracking
