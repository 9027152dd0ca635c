// How a run goes on after its end: its state into the checkpoints of its folder and back, on all ranks.
#pragma once

#include "vision/engine/checkpoint.h"
#include "vision/engine/distributed.h"
#include "vision/engine/ema.h"
#include "vision/engine/optimizer.h"
#include "vision/engine/task.h"

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <tuple>

namespace comba::vision {

// What a checkpoint holds.
struct RunParts {
  Task& task;
  Optimizer& optimizer;
  std::optional<WeightAverage>& average;
  CheckpointState& state;
};

class RunCheckpoints {
 public:
  // `folder` of the run; `config` as TOML; `keep` as TrainOptions has it.
  RunCheckpoints(const RunParts& parts, std::filesystem::path folder, std::string config,
                 int64_t keep, std::shared_ptr<Ranks> ranks);

  std::filesystem::path folder() const { return folder_ / "checkpoints"; }
  // Makes the folder and clears away what a process killed in the middle of a write has left. By rank 0.
  void prepare();
  // Rank 0 reads the newest valid checkpoint, and all ranks take over what it has read. Returns its path, or nothing.
  std::string resume();
  // step-N is the checkpoint; last and best are further names of it. A failure is reported and kept in failure(). On all ranks;
  // rank 0 writes.
  bool save(bool best);
  // Without asking the others, who may be anywhere.
  bool save_alone(bool best) { return !ranks_->first() || write(best); }
  const std::string& failure() const { return failure_; }

 private:
  void take_over(const LoadedCheckpoint& checkpoint);
  void restore_names(const LoadedCheckpoint& checkpoint);
  void share();
  bool write(bool best);
  void load_weights(const std::map<std::string, at::Tensor>& tensors);
  NamedTensors optimizer_state() const;
  c10::Device device() const;

  RunParts parts_;
  std::filesystem::path folder_;
  std::string config_;
  int64_t keep_;
  std::shared_ptr<Ranks> ranks_;
  std::tuple<double, int64_t, std::string> best_kept_;  // of the last checkpoint written
  std::string failure_;
};

}  // namespace comba::vision
