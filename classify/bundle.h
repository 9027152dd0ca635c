// A trained classifier with everything needed to use it: weights, class names, configuration. A lone
// safetensors file carries it all in its header.
#pragma once

#include "classify/classifier.h"
#include "classify/config.h"

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace comba::classify {

struct Bundle {
  RunConfig config;
  std::vector<std::string> class_names;  // as many as the head has outputs
  bool classes_named = true;             // false: the file names none, they are "class N"
  Classifier model{nullptr};             // in eval mode
  std::filesystem::path weights;         // the file that was read
};

// The metadata of a weights file: "format" ("pt", as PyTorch's), "comba.config" (TOML, without data paths),
// "comba.classes" (JSON list).
std::map<std::string, std::string> make_metadata(const RunConfig& config,
                                                 const std::vector<std::string>& class_names);
// The same of a bundle; without class names if it has none.
std::map<std::string, std::string> make_metadata(const Bundle& bundle);

// `path`: a run folder (its best checkpoint, or else its last), a checkpoint folder, or a file (vision/io/weights_file.h).
// `weights`: "raw", "ema", or "auto" (the ones the best metric belongs to).
// `config`: the model's configuration, for a file of another program, which has none; its tensors are mapped and resized to it
// (vision/engine/import_weights.h).
Bundle load_bundle(const std::filesystem::path& path, const std::string& weights,
                   const c10::Device& device, const std::filesystem::path& config = {});

}  // namespace comba::classify
