// Everything a classification config file may say.
#pragma once

#include "classify/distill_options.h"
#include "classify/mixing.h"
#include "datasets/erase.h"
#include "datasets/loader.h"
#include "vision/backbone.h"
#include "vision/base/config.h"
#include "vision/engine/train_options.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace comba::classify {

struct DataOptions {
  std::string train;  // pack, folder of class folders, or "synthetic"
  std::string train_split = "train";
  std::string eval;  // empty: the same place as `train`
  std::string eval_split = "val";
  int64_t repeats = 1;          // views of an image that follow each other in training
  int64_t threads = 0;          // loader threads; 0: one per core
  std::string on_bad = "fail";  // unreadable image: fail | skip | grey
  int64_t max_bad = 100;
  double nvjpeg_share =
      0.0;  // of the training images: decoded by the GPU where it takes them; on CUDA
  std::vector<double> mean = {0.485, 0.456, 0.406};  // of pixels scaled to 0..1, one per channel
  std::vector<double> std = {0.229, 0.224, 0.225};
  int64_t synthetic_size = 10240;      // images per epoch of "synthetic"
  bool synthetic_fixed_batch = false;  // train on one batch over and over
};

struct RunConfig {
  std::string task = "classify";
  int64_t seed = 0;
  int64_t classes = 0;  // 0: as many as the data has
  std::string init;     // weights to begin with; empty: random
  vision::BackboneConfig model;
  datasets::TransformOptions transform;
  DataOptions data;
  datasets::EraseOptions erase;
  MixOptions mix;
  std::string loss =
      "ce";  // ce: cross entropy | bce: every class by itself, all that is in a mix is there
  double label_smoothing = 0.1;
  double layer_decay = 1.0;  // of the learning rate, from the head to the input
  vision::TrainOptions train;
  DistillOptions distill;
  // No keys: the share of every batch, and of what is evaluated, that this process has, see datasets::LoaderOptions.
  int64_t rank = 0, ranks = 1;
};

// Registers every key of a classification config.
void declare(ConfigTable& table, RunConfig& config);

// Reads `path`, applies the `--set` assignments, checks the keys against each other and makes relative data
// paths absolute. Returns the resolved configuration as TOML.
std::string read_run_config(const std::filesystem::path& path,
                            const std::vector<std::string>& assignments, RunConfig& config);
// The same for configuration text; relative data paths are looked for from the working directory, then from
// `folder`.
std::string read_run_config_text(std::string_view text, const std::string& origin,
                                 const std::filesystem::path& folder,
                                 const std::vector<std::string>& assignments, RunConfig& config);
// `config` as TOML.
std::string dump(const RunConfig& config);

}  // namespace comba::classify
