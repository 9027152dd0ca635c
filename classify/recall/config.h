// Everything a configuration of the recall tasks may say.
#pragma once

#include "vision/backbone.h"
#include "vision/base/config.h"
#include "vision/engine/train_options.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace comba::recall {

// Examples are made as they are needed and never twice; see examples.h for what they are.
struct DataOptions {
  std::string kind = "sequence";     // sequence | picture
  int64_t length = 512;              // tokens of a sequence; a picture has the model's patches
  int64_t vocabulary = 8192;         // symbols: one half keys, the other values
  int64_t pairs = 64;                // in an example that is evaluated
  std::vector<int64_t> train_pairs;  // in one of training, drawn from these; empty: `pairs`
  double gap_power = 0.01;   // sequence: a of the power law a x^(a-1) of the questions' places
  double noise = 0.25;       // picture: standard deviation of the noise; a symbol's pixels have 1
  int64_t samples = 100000;  // an epoch
  int64_t eval_samples = 2000;
  int64_t threads = 0;  // that make examples; 0: one per core
};

struct RecallConfig {
  std::string task = "recall";
  int64_t seed = 0;
  vision::BackboneConfig model;
  int64_t token_conv = 0;  // sequence: taps of a convolution of the embeddings; 0: none
  DataOptions data;
  vision::TrainOptions train;

  int64_t tokens() const { return data.kind == "picture" ? model.patches() : data.length; }
  // The most pairs that an example has.
  int64_t questions() const;
};

// Registers every key of a recall config.
void declare(ConfigTable& table, RecallConfig& config);

// As classify::read_run_config().
std::string read_recall_config(const std::filesystem::path& path,
                               const std::vector<std::string>& assignments, RecallConfig& config);
std::string read_recall_config_text(std::string_view text, const std::string& origin,
                                    const std::vector<std::string>& assignments,
                                    RecallConfig& config);
// `config` as TOML.
std::string dump(const RecallConfig& config);

}  // namespace comba::recall
