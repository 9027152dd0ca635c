#include "vision/engine/step_watch.h"

#include <algorithm>
#include <utility>

namespace comba::vision {
namespace {

constexpr int64_t kLearnFirst = 50;       // losses before any is compared
constexpr double kForget = 0.02;          // weight of the newest loss
constexpr double kLeastDeviation = 0.01;  // of the mean: below, any wobble would be a spike

}  // namespace

void StepWatch::see(int64_t step, const StepFigures& figures) {
  if (!figures.finite()) {
    ++skipped_;
    ++in_row_;
    return;
  }
  in_row_ = 0;
  double loss = figures.loss;
  const double deviation = std::max(std::sqrt(variance_), kLeastDeviation * std::abs(mean_));
  const double bound = mean_ + spike_ * deviation;
  if (spike_ > 0 && learnt_ >= kLearnFirst && loss > bound) {
    spikes_.push_back({step, loss, mean_, deviation});
    loss = bound;  // one outlier does not make the next one usual; many do
  }
  learn(loss);
}

void StepWatch::learn(double loss) {
  ++learnt_;
  // A plain average at first, an exponential one later.
  const double weight = std::max(kForget, 1.0 / static_cast<double>(learnt_));
  const double away = loss - mean_;
  mean_ += weight * away;
  variance_ = (1.0 - weight) * (variance_ + weight * away * away);
}

std::vector<LossSpike> StepWatch::take_spikes() { return std::exchange(spikes_, {}); }

}  // namespace comba::vision
