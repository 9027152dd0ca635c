// Everything a tracking config file may say.
#pragma once

#include "tracking/losses.h"
#include "tracking/network.h"
#include "tracking/training_pair.h"
#include "vision/engine/train_options.h"

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace comba::tracking {

struct TrackDataOptions {
  std::vector<std::string> train, eval;  // see training_data.h
  std::vector<double> ratios;            // one for each of `train`; empty: all 1
  int64_t samples = 60000;               // pairs per epoch of training
  int64_t eval_samples = 10000;
  bool skip_known_bad = true;
  int64_t threads = 0;  // loader threads; 0: one per core
  std::string on_bad = "fail";
  int64_t max_bad = 100;
  CropOptions crops;
  std::vector<double> mean = {0.485, 0.456, 0.406};  // of pixels scaled to 0..1
  std::vector<double> std = {0.229, 0.224, 0.225};
};

struct TrackConfig {
  std::string task = "track";
  int64_t seed = 0;
  NetworkConfig network;
  std::string init;  // weights of a classifier or tracker whose backbone to begin with
  TrackDataOptions data;
  TrackingLossWeights loss;
  double backbone_lr = 0.1;  // share of train.lr
  vision::TrainOptions train;

  TrackConfig() { network.backbone.image_size = 256; }  // OSTrack's search image
};

// Registers every key of a tracking config.
void declare(ConfigTable& table, TrackConfig& config);

// As classify::read_run_config().
std::string read_track_config(const std::filesystem::path& path,
                              const std::vector<std::string>& assignments, TrackConfig& config);
std::string read_track_config_text(std::string_view text, const std::string& origin,
                                   const std::filesystem::path& folder,
                                   const std::vector<std::string>& assignments,
                                   TrackConfig& config);
// `config` as TOML.
std::string dump(const TrackConfig& config);

}  // namespace comba::tracking
