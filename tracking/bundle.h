// A trained tracker with everything needed to use it; a lone safetensors file carries it all in its header.
#pragma once

#include "tracking/config.h"
#include "vision/engine/import_weights.h"

#include <filesystem>
#include <map>
#include <string>

namespace comba::tracking {

struct TrackerBundle {
  TrackConfig config;
  Network network{nullptr};       // in eval mode
  std::filesystem::path weights;  // the file that was read
  std::string hash;               // of its bytes, 8 hexadecimal digits: results are kept by it
};

// The metadata of a weights file: "format" ("pt"), "comba.config" (TOML, without data paths).
std::map<std::string, std::string> make_metadata(const TrackConfig& config);

// `path`, `weights`: as vision::find_weights().
TrackerBundle load_tracker(const std::filesystem::path& path, const std::string& weights,
                           const c10::Device& device);

// What the weights at `path` are for: "track", "classify", or "" if they do not say.
std::string weights_task(const std::filesystem::path& path);

// Fills the network's backbone from the weights of a classifier or tracker, ours or another program's; heads are left. Says what
// became of the tensors; throws as vision::import_weights() does.
vision::KeyDiff load_backbone(Network& network, const std::filesystem::path& path);

}  // namespace comba::tracking
