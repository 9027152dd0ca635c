// Looks at what the steps came to: counts what went wrong and says when a run had better stop.
#pragma once

#include "vision/engine/step_history.h"

#include <cstdint>
#include <vector>

namespace comba::vision {

struct LossSpike {
  int64_t step = 0;  // counted from 1
  double loss = 0.0;
  double usual = 0.0, deviation = 0.0;  // of the steps before it
};

class StepWatch {
 public:
  // A loss is a spike that lies `spike` standard deviations above what is usual; 0: none is.
  explicit StepWatch(double spike) : spike_(spike) {}

  void see(int64_t step, const StepFigures& figures);

  int64_t skipped() const { return skipped_; }          // steps that were not finite, so far
  int64_t skipped_in_a_row() const { return in_row_; }  // up to the last step seen
  // Those seen since the last call.
  std::vector<LossSpike> take_spikes();

 private:
  void learn(double loss);

  double spike_;
  int64_t skipped_ = 0, in_row_ = 0;
  int64_t learnt_ = 0;
  double mean_ = 0.0, variance_ = 0.0;  // exponential averages over the last losses
  std::vector<LossSpike> spikes_;
};

}  // namespace comba::vision
