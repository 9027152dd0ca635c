// A configuration small enough to train in a unit test; made-up images, no files.
#pragma once

#include "classify/config.h"

#include <string>
#include <vector>

namespace comba::classify {

inline const std::string kTinyConfig = R"(
[model]
image_size = 8
patch_size = 4
in_channels = 3
width = 16
depth = 2
head_dim = 16
drop_path = 0.3
classes = 4
[data]
train = "synthetic"
synthetic_size = 80
[train]
epochs = 3
batch_size = 8
lr = 3e-3
warmup_epochs = 0.5
ema_decay = 0.9
threads = 1
)";

inline RunConfig tiny_config(const std::vector<std::string>& assignments = {}) {
  RunConfig config;
  read_run_config_text(kTinyConfig, "tiny.toml", ".", assignments, config);
  return config;
}

}  // namespace comba::classify
