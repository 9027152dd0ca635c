// Checkpoints: folders of safetensors that are whole or absent, verified before a byte of them is used.
//
//   <run>/checkpoints/step-1200/   model.safetensors  ema.safetensors  optimizer.safetensors
//                                  config.toml  state.json
//   <run>/checkpoints/{last,best}/ the same files (hard links where the file system has them)
//
// state.json carries size and CRC-32C of every other file and of itself.
#pragma once

#include "vision/io/safetensors.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include <torch/nn/module.h>

namespace comba::vision {

inline constexpr int64_t kCheckpointVersion = 1;

struct CheckpointState {
  int64_t step = 0;           // optimizer steps done
  int64_t epoch = 0;          // the epoch in progress
  int64_t epoch_step = 0;     // its steps done: where the loader goes on
  bool epoch_closed = false;  // its evaluation is done, too
  int64_t ema_updates = 0;
  double epoch_loss_sum = 0.0;   // of the steps done in this epoch whose loss was finite
  int64_t epoch_loss_steps = 0;  // their number
  double best_metric = -1e300;   // larger is better
  int64_t best_epoch = -1;
  std::string best_weights = "raw";  // raw | ema: which of the two the best metric belongs to
  std::string data_fingerprint;
  std::string config_hash;  // crc32c of the configuration's text
};

// As text, and back.
std::string to_text(const CheckpointState& state);
CheckpointState state_of(const std::string& text);

struct Checkpoint {
  CheckpointState state;
  NamedTensors model;
  NamedTensors ema;                             // empty: no average
  NamedTensors optimizer;                       // with the random generators' states
  std::map<std::string, std::string> metadata;  // of the weights files
  std::string config;                           // TOML
};

// What load_checkpoint returns: the same, by name.
struct LoadedCheckpoint {
  std::filesystem::path path;
  CheckpointState state;
  std::map<std::string, at::Tensor> model, ema, optimizer;
  std::string config;
};

// All parameters and buffers, by name.
NamedTensors weights_of(const torch::nn::Module& model);

// Writes the folder whole or not at all; throws Error naming the file and the reason.
void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint);

// Reads state.json and verifies every file against it. Throws Error naming the damaged file.
CheckpointState verify_checkpoint(const std::filesystem::path& path);
LoadedCheckpoint load_checkpoint(const std::filesystem::path& path);

// The newest valid checkpoint under `folder` (last, best, step-N); a damaged one is named in a warning and
// passed over. Empty if there is none at all; throws Error if there are some and none is valid.
std::optional<LoadedCheckpoint> load_newest_checkpoint(const std::filesystem::path& folder);

// Makes `destination` the same checkpoint as `source`, whole or not at all.
void link_checkpoint(const std::filesystem::path& source, const std::filesystem::path& destination);

// Removes the oldest step-N folders until `keep` are left.
void prune_checkpoints(const std::filesystem::path& folder, int64_t keep);

}  // namespace comba::vision
