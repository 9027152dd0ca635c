// One step of training: loss, gradients, update.
#pragma once

#include "vision/engine/gradient_reducer.h"
#include "vision/engine/optimizer.h"
#include "vision/engine/precision.h"
#include "vision/engine/step_history.h"
#include "vision/engine/task.h"

#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::vision {

class RecordedStep;  // a CUDA graph and the batch it reads

struct TrainingStepOptions {
  Precision precision = Precision::fp32;
  int64_t parts = 1;   // of a batch, one after another: their mean gradient is the step's
  bool record = true;  // on CUDA, on a stream other than the default one: see TrainingStep
  // Every batch consists of the same tensors, whose numbers may change: a recorded step reads them where they are.
  bool same_tensors = false;
};

// On CUDA the step is recorded as a graph, after a few that warm LibTorch up, and replayed from then on: the same kernels
// on the same numbers, with one launch instead of a thousand. What depends on the step therefore has to be a tensor: the
// batch, the rate, the random generator's place.
class TrainingStep {
 public:
  TrainingStep(Task& task, Optimizer& optimizer, const TrainingStepOptions& options);
  ~TrainingStep();

  // Fetches a batch and trains on it at `lr`. Does not wait for the device.
  void run(double lr);
  // What makes gradients those of all ranks; recorded with the step.
  void set_reducer(GradientReducer* reducer) { reducer_ = reducer; }
  // What the steps since the last call came to: at most StepHistory::kCapacity of them. Waits for the device.
  std::vector<StepFigures> take_figures(Ranks& ranks) { return history_.take(ranks); }
  // Gives back the recording and its memory.
  void forget();
  Precision precision() const { return options_.precision; }

 private:
  void compute(const std::vector<at::Tensor>& batch);
  void record(const std::vector<at::Tensor>& batch);

  Task& task_;
  Optimizer& optimizer_;
  TrainingStepOptions options_;
  GradientReducer* reducer_ = nullptr;
  StepHistory history_;
  int warm_ups_left_;
  std::unique_ptr<RecordedStep> recorded_;
};

}  // namespace comba::vision
