// A tracker that is small enough for a test, with random weights.
#pragma once

#include "datasets/image.h"
#include "tracking/bundle.h"
#include "vision/base/random.h"

#include <string>
#include <vector>

#include <ATen/Context.h>

namespace comba::tracking {

inline constexpr const char* kTiny =
    "task = \"track\"\n[model]\nimage_size = 64\ntemplate_size = 32\nwidth = 64\ndepth = 2\n"
    "head_width = 16\n[data]\nsamples = 32\neval_samples = 8\nthreads = 2\n[train]\nepochs = 2\n"
    "batch_size = 8\nwarmup_epochs = 0\nlog_every = 100\nprecision = \"fp32\"\n";

inline TrackConfig tiny_config(const std::vector<std::string>& more = {}) {
  TrackConfig config;
  read_track_config_text(kTiny, "tiny", ".", more, config);
  return config;
}

inline TrackerBundle tiny_bundle(const std::vector<std::string>& more = {}) {
  at::manual_seed(3);
  TrackerBundle bundle;
  bundle.config = tiny_config(more);
  bundle.network = Network(bundle.config.network);
  bundle.network->eval();
  return bundle;
}

// Of an image nothing like a target.
inline datasets::Image noise(int width, int height, uint64_t seed) {
  RandomStream random(seed, 0, 0, RandomPurpose::synthesise);
  datasets::Image image{height, width, 3, {}};
  for (int i = 0; i < width * height * 3; ++i) {
    image.pixels.push_back(static_cast<uint8_t>(random.below(256)));
  }
  return image;
}

}  // namespace comba::tracking
