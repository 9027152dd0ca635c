#include "classify/recall/task.h"

#include "vision/base/error.h"
#include "vision/base/stopwatch.h"
#include "vision/engine/precision.h"
#include "vision/engine/report.h"

#include <algorithm>
#include <bit>
#include <cstdlib>

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cross_entropy_loss.h>

namespace comba::recall {
namespace {

// Distances in tokens are counted by powers of two, those in front of the pair apart: 2 * (its bits) + (in front).
constexpr size_t kDistances = 2 * 64;
size_t bin_of(int64_t distance) {
  const auto width = static_cast<size_t>(std::bit_width(static_cast<uint64_t>(std::abs(distance))));
  return 2 * width + (distance < 0 ? 1 : 0);
}

std::string bin_name(size_t bin) {
  const auto low = int64_t{1} << (bin / 2 - 1);
  return fmt::format("{} to {} tokens {}", low, 2 * low - 1,
                     bin % 2 == 1 ? "in front of the pair" : "behind the pair");
}

double share(double part, double whole) { return whole > 0 ? 100.0 * part / whole : 0.0; }

}  // namespace

RecallTask::RecallTask(const RecallConfig& config, const c10::Device& device,
                       std::shared_ptr<vision::Ranks> ranks)
    : config_(config), device_(device), ranks_(std::move(ranks)) {
  if (steps_per_epoch() == 0) {
    throw UsageError(
        fmt::format("configuration: data.samples = {} examples are less than one batch of "
                    "train.batch_size = {}",
                    config.data.samples, batch_size()));
  }
  at::manual_seed(static_cast<uint64_t>(config.seed));
  model_ = make_model(config_);
  model_->to(device);
}

void RecallTask::start_epoch(int64_t epoch, int64_t first_step) {
  ahead_ = {};  // waits for it
  epoch_ = epoch;
  step_ = first_step;
}

// This rank's of first .. end - 1.
std::vector<int64_t> RecallTask::share_of(int64_t first, int64_t end) const {
  const int64_t count = end - first, rank = ranks_->rank(), size = ranks_->size();
  std::vector<int64_t> indices;
  for (int64_t i = first + count * rank / size; i < first + count * (rank + 1) / size; ++i) {
    indices.push_back(i);
  }
  return indices;
}

std::vector<torch::Tensor> RecallTask::on_device(const Examples& examples) const {
  const auto sent = [&](const at::Tensor& tensor) {
    return tensor.to(device_, /*non_blocking=*/true);
  };
  return {sent(examples.input), sent(examples.asked), sent(examples.answers)};
}

Examples RecallTask::make_batch(int64_t epoch, int64_t step) const {
  const int64_t first = step * batch_size();
  return training_examples(config_, epoch, share_of(first, first + batch_size()),
                           device_.is_cuda());
}

std::vector<torch::Tensor> RecallTask::next_batch() {
  const Stopwatch watch;
  const Examples examples = ahead_.valid() ? ahead_.get() : make_batch(epoch_, step_);
  data_wait_ += watch.seconds();
  if (++step_ < steps_per_epoch()) {
    ahead_ = std::async(std::launch::async, &RecallTask::make_batch, this, epoch_, step_);
  }
  return on_device(examples);
}

torch::Tensor RecallTask::loss(const std::vector<torch::Tensor>& batch) {
  const torch::Tensor logits = model_->forward(batch[0], batch[1]).to(at::kFloat);
  const torch::Tensor losses =  // [B, Q], 0 where there is no question
      at::cross_entropy_loss(logits.flatten(0, 1), batch[2].flatten(), {}, at::Reduction::None)
          .view_as(batch[2]);
  return (losses.sum(1) / batch[2].ge(0).sum(1)).mean();
}

vision::Metrics RecallTask::evaluate() {
  const at::NoGradGuard no_grad;
  const vision::AutocastScope autocast(
      vision::choose_precision(device_.is_cuda() ? config_.train.precision : "fp32", device_));
  const bool was_training = model_->is_training();
  model_->eval();
  double loss = 0.0;
  std::vector<double> right(kDistances, 0.0), asked(kDistances, 0.0);
  for (int64_t first = 0; first < config_.data.eval_samples; first += batch_size()) {
    const int64_t end = std::min(first + batch_size(), config_.data.eval_samples);
    const std::vector<int64_t> indices = share_of(first, end);
    if (indices.empty()) {
      continue;
    }
    const Examples examples = held_out_examples(config_, indices, device_.is_cuda());
    const std::vector<torch::Tensor> batch = on_device(examples);
    const torch::Tensor logits = model_->forward(batch[0], batch[1]).to(at::kFloat);
    loss += at::cross_entropy_loss(logits.flatten(0, 1), batch[2].flatten(), {}, at::Reduction::Sum)
                .item<double>();
    const at::Tensor hits = logits.argmax(-1).eq(batch[2]).to(at::kCPU).contiguous();
    const bool* const hit = hits.const_data_ptr<bool>();
    const int64_t* const answer = examples.answers.const_data_ptr<int64_t>();
    const int64_t* const distance = examples.distance.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < hits.numel(); ++i) {
      if (answer[i] >= 0) {
        asked[bin_of(distance[i])] += 1;
        right[bin_of(distance[i])] += hit[i] ? 1 : 0;
      }
    }
  }
  model_->train(was_training);
  loss = ranks_->sum(std::vector<double>{loss})[0];
  right_ = ranks_->sum(right);
  asked_ = ranks_->sum(asked);
  return metrics(loss);
}

vision::Metrics RecallTask::metrics(double loss) const {
  double right[2] = {0, 0}, asked[2] = {0, 0};  // behind and in front of the pair
  for (size_t bin = 0; bin < asked_.size(); ++bin) {
    right[bin % 2] += right_[bin];
    asked[bin % 2] += asked_[bin];
  }
  const double questions = asked[0] + asked[1];
  vision::Metrics metrics = {{"loss", loss / questions},
                             {"accuracy", share(right[0] + right[1], questions)}};
  if (config_.data.kind == "picture") {
    metrics.emplace_back("behind", share(right[0], asked[0]));
    metrics.emplace_back("ahead", share(right[1], asked[1]));
  }
  return metrics;
}

std::string RecallTask::data_fingerprint() const {
  const DataOptions& data = config_.data;
  return fmt::format("recall {} of {} tokens, {} symbols, {} examples, seed {}", data.kind,
                     config_.tokens(), data.vocabulary, data.samples, config_.seed);
}

std::map<std::string, std::string> RecallTask::weights_metadata() const {
  return {{"format", "pt"}, {"comba.config", dump(config_)}};
}

std::vector<std::pair<std::string, std::string>> RecallTask::by_distance() const {
  std::vector<std::pair<std::string, std::string>> rows;
  for (size_t bin = 0; bin < asked_.size(); ++bin) {
    if (asked_[bin] > 0) {
      rows.emplace_back(bin_name(bin), fmt::format("{:.2f} % of {:.0f}",
                                                   share(right_[bin], asked_[bin]), asked_[bin]));
    }
  }
  return rows;
}

std::vector<std::pair<std::string, std::string>> RecallTask::report_sections() {
  return {{"Questions answered, by distance", vision::key_value_table_html(by_distance())}};
}

}  // namespace comba::recall
