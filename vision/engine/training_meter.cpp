#include "vision/engine/training_meter.h"

#include <limits>

namespace comba::vision {
namespace {

// By how much each figure grew, as a share of the seconds passed.
Metrics shares(const Metrics& before, Metrics now, double seconds) {
  for (size_t i = 0; i < now.size(); ++i) {
    const double start = i < before.size() ? before[i].second : 0.0;
    now[i].second = (now[i].second - start) / seconds;
  }
  return now;
}

}  // namespace

void TrainingMeter::begin_epoch() {
  epoch_steps_ = 0;
  epoch_seconds_ = 0.0;
  begin_interval();
}

void TrainingMeter::begin_interval() {
  loss_ = norm_ = 0.0;
  steps_ = finite_steps_ = 0;
  wait_ = task_.data_wait_seconds();
  stages_ = task_.data_stage_seconds();
  clock_.restart();
}

void TrainingMeter::add(const StepFigures& figures) {
  ++steps_;
  norm_ = figures.gradient_norm;
  if (figures.finite()) {
    loss_ += figures.loss;
    ++finite_steps_;
  }
}

IntervalRecord TrainingMeter::close() {
  const double seconds = clock_.seconds();
  IntervalRecord record;
  record.loss = finite_steps_ > 0 ? loss_ / static_cast<double>(finite_steps_)
                                  : std::numeric_limits<double>::quiet_NaN();
  record.gradient_norm = norm_;
  record.skipped = steps_ - finite_steps_;
  record.images_per_second = rate(steps_, seconds);
  record.data_wait = (task_.data_wait_seconds() - wait_) / seconds;
  record.data_stages = shares(stages_, task_.data_stage_seconds(), seconds);
  run_seconds_ += seconds;
  run_steps_ += steps_;
  epoch_seconds_ += seconds;
  epoch_steps_ += steps_;
  begin_interval();
  return record;
}

double TrainingMeter::seconds_for(int64_t steps) const {
  return run_steps_ > 0
             ? static_cast<double>(steps) * run_seconds_ / static_cast<double>(run_steps_)
             : 0.0;
}

double TrainingMeter::rate(int64_t steps, double seconds) const {
  return seconds > 0 ? static_cast<double>(steps * task_.batch_size()) / seconds : 0.0;
}

}  // namespace comba::vision
