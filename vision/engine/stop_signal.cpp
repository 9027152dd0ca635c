#include "vision/engine/stop_signal.h"

#include <atomic>
#include <utility>

#include <ATen/ops/empty.h>
#include <unistd.h>

namespace comba::vision {
namespace {

std::atomic<int> signal_here{0};

void on_signal(int signal) {
  int none = 0;
  if (!signal_here.compare_exchange_strong(none, signal)) {
    _exit(128 + signal);
  }
}

}  // namespace

StopSignal::StopSignal(std::shared_ptr<Ranks> ranks) : ranks_(std::move(ranks)) {
  signal_here = 0;
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &interrupt_);
  sigaction(SIGTERM, &action, &terminate_);
}

StopSignal::~StopSignal() {
  sigaction(SIGINT, &interrupt_, nullptr);
  sigaction(SIGTERM, &terminate_, nullptr);
}

int StopSignal::received() const { return ranks_->size() == 1 ? signal_here.load() : agreed_; }

StopSignal::Vote StopSignal::vote() {
  const c10::Device device = ranks_->device();
  const at::Tensor counts = at::empty({2}, at::TensorOptions(device).dtype(at::kDouble));
  const int signal = signal_here;
  counts[0].fill_(signal == SIGINT ? 1.0 : 0.0);
  counts[1].fill_(signal == SIGTERM ? 1.0 : 0.0);
  ranks_->sum(counts);
  if (device.is_cpu()) {
    return {counts, {}};
  }
  const at::Tensor host =
      at::empty({2}, at::TensorOptions().dtype(at::kDouble).pinned_memory(true));
  host.copy_(counts, /*non_blocking=*/true);
  return {host, mark_current(device)};
}

void StopSignal::count(const Vote& vote) {
  vote.ready.wait();
  const double* const counts = vote.counts.const_data_ptr<double>();
  if (counts[0] + counts[1] > 0) {
    agreed_ = counts[1] > 0 ? SIGTERM : SIGINT;
  }
}

void StopSignal::after_step() {
  if (ranks_->size() == 1) {
    return;
  }
  if (ranks_->device().is_cpu()) {
    return count(vote());
  }
  if (const auto last = std::exchange(open_, vote())) {
    count(*last);
  }
}

void StopSignal::agree() {
  if (ranks_->size() == 1) {
    return;
  }
  if (const auto last = std::exchange(open_, std::nullopt)) {
    count(*last);
  }
  count(vote());
}

}  // namespace comba::vision
