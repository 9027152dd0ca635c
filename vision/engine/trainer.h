// The training loop, the same for every task.
#pragma once

#include "vision/engine/distributed.h"
#include "vision/engine/task.h"
#include "vision/engine/train_options.h"

#include <filesystem>
#include <memory>
#include <string>

namespace comba::vision {

struct RunOptions {
  std::filesystem::path folder;  // config.toml, log.txt, results.csv, ..., checkpoints/
  std::string title;             // of the report
  std::string config;            // the resolved configuration as TOML
  int64_t seed = 0;
  bool resume = false;                     // go on from the newest valid checkpoint in `folder`
  std::shared_ptr<Ranks> ranks = alone();  // each calls train(); rank 0 alone writes to `folder`
};

struct TrainResult {
  int64_t steps = 0;
  Metrics last;          // of the last evaluation, raw weights
  Metrics last_average;  // the same with averaged weights; empty without an average
  double best_metric = 0.0;
  int64_t best_epoch = -1;         // counted from 0
  std::string best_weights;        // raw | ema
  double images_per_second = 0.0;  // training alone, over the whole run
  int signal = 0;                  // the signal that stopped the run; 0: it ran to its end
};

// Trains until the epochs, max_steps, a signal, or many steps in a row that are not finite (max_skipped) end it. SIGINT and SIGTERM let
// the step finish and save a checkpoint; a second one ends the process at once. Several ranks stop after the same step, whichever
// of them gets the signal. An Error may be of one rank alone: Ranks::fail() then ends the others.
TrainResult train(Task& task, const TrainOptions& options, const RunOptions& run);

}  // namespace comba::vision
