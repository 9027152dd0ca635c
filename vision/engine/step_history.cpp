#include "vision/engine/step_history.h"

#include "vision/base/error.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

namespace comba::vision {

StepHistory::StepHistory(const c10::Device& device) {
  const at::TensorOptions options(device);
  loss_ = at::zeros({1}, options.dtype(at::kDouble));
  place_ = at::zeros({1}, options.dtype(at::kLong));
  figures_ = at::zeros({2, kCapacity}, options.dtype(at::kDouble));
}

void StepHistory::add_loss(const at::Tensor& loss) {
  const at::NoGradGuard no_grad;
  loss_.add_(loss.detach());
}

void StepHistory::close(const at::Tensor& gradient_norm) {
  const at::NoGradGuard no_grad;
  figures_[0].index_copy_(0, place_, loss_);
  figures_[1].index_copy_(0, place_, gradient_norm.to(at::kDouble).view({1}));
  place_.add_(1);
  loss_.zero_();
}

std::vector<StepFigures> StepHistory::take(Ranks& ranks) {
  const at::NoGradGuard no_grad;
  const auto count = place_.item<int64_t>();
  COMBA_CHECK(count <= kCapacity, "training: {} steps since their figures were read, expected {}",
              count, kCapacity);
  const at::Tensor losses = figures_[0];
  ranks.sum(losses);
  const at::Tensor host = figures_.to(at::kCPU);
  const auto values = host.accessor<double, 2>();
  std::vector<StepFigures> steps;
  for (int64_t i = 0; i < count; ++i) {
    steps.push_back({values[0][i] / static_cast<double>(ranks.size()), values[1][i]});
  }
  place_.zero_();
  figures_.zero_();
  return steps;
}

}  // namespace comba::vision
