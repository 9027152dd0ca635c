// The figures of log lines: loss, rate, and where the time went, of an interval, an epoch and the run.
#pragma once

#include "vision/base/stopwatch.h"
#include "vision/engine/run_log.h"
#include "vision/engine/step_history.h"
#include "vision/engine/task.h"

#include <cstdint>

namespace comba::vision {

class TrainingMeter {
 public:
  explicit TrainingMeter(const Task& task) : task_(task) {}

  // Begins an interval as well.
  void begin_epoch();
  // A step that was taken and read back.
  void add(const StepFigures& figures);
  bool empty() const { return steps_ == 0; }  // no step in this interval
  // Ends the interval and begins the next one. Loss, gradient norm, skipped steps, rate and data are set, the rest is the caller's.
  IntervalRecord close();

  // At the pace of the run so far.
  double seconds_for(int64_t steps) const;
  double images_per_second() const { return rate(run_steps_, run_seconds_); }
  double epoch_seconds() const { return epoch_seconds_; }
  double epoch_images_per_second() const { return rate(epoch_steps_, epoch_seconds_); }

 private:
  void begin_interval();
  double rate(int64_t steps, double seconds) const;

  const Task& task_;
  double loss_ = 0.0, norm_ = 0.0;  // sum of the finite losses; norm of the last step
  int64_t steps_ = 0, finite_steps_ = 0;
  double wait_ = 0.0;  // data_wait_seconds() at the interval's beginning
  Metrics stages_;     // and data_stage_seconds()
  Stopwatch clock_;
  int64_t epoch_steps_ = 0, run_steps_ = 0;
  double epoch_seconds_ = 0.0, run_seconds_ = 0.0;
};

}  // namespace comba::vision
