#include "classify/task.h"

#include "classify/bundle.h"
#include "classify/report_sections.h"
#include "vision/base/error.h"
#include "vision/base/log.h"
#include "vision/base/stopwatch.h"

#include <ATen/Context.h>
#include <ATen/ops/cross_entropy_loss.h>

namespace comba::classify {
namespace {

constexpr int64_t kReportExamples = 24;

int64_t class_count(const RunConfig& config, const BatchStream& train) {
  const auto data = static_cast<int64_t>(train.classes().size());
  COMBA_CHECK(data > 0, "opening the training images: {} has no classes", config.data.train);
  if (config.classes > 0 && config.classes < data) {
    throw UsageError(
        fmt::format("configuration: model.classes = {}, but the data has {} classes; use 0 to "
                    "take the number from the data",
                    config.classes, data));
  }
  return config.classes > 0 ? config.classes : data;
}

}  // namespace

ClassifyTask::ClassifyTask(const RunConfig& config, const c10::Device& device)
    : config_(config),
      device_(device),
      train_(open_stream(config, Purpose::training)),
      eval_(open_stream(config, Purpose::evaluation)),
      normalise_(config.data.mean, config.data.std, device) {
  COMBA_CHECK(
      train_->classes() == eval_->classes(),
      "opening the data: the training images have {} classes, the evaluation images {}, or their "
      "names differ; both need the same classes",
      train_->classes().size(), eval_->classes().size());
  config_.classes = class_count(config_, *train_);
  at::manual_seed(static_cast<uint64_t>(config.seed));
  model_ = Classifier(config_.model, config_.classes);
  model_->to(device);
  log::info("training on {} images in {} classes, evaluating on {}", train_->size(),
            train_->classes().size(), eval_->size());
}

void ClassifyTask::start_epoch(int64_t epoch, int64_t first_step) {
  epoch_ = epoch;
  step_ = first_step;
  const bool keep_batch = config_.data.synthetic_fixed_batch && images_.defined();
  if (!keep_batch) {
    train_->start(config_.data.synthetic_fixed_batch ? 0 : epoch,
                  config_.data.synthetic_fixed_batch ? 0 : first_step);
  }
}

void ClassifyTask::fetch() {
  if (config_.data.synthetic_fixed_batch && images_.defined()) {
    return;
  }
  const Stopwatch watch;
  COMBA_CHECK(train_->next(batch_), "fetching a training batch: the epoch has ended early");
  data_wait_ += watch.seconds();
  if (first_batch_.size == 0) {
    first_batch_ = batch_;
  }
  images_ = normalise_(pixels_of(batch_, config_.model.image_size, config_.model.in_channels));
  labels_ = labels_of(batch_).to(device_, at::kLong, /*non_blocking=*/false, /*copy=*/true);
}

at::Tensor ClassifyTask::mixed_loss() {
  const auto mixes = draw_mixes(config_.mix, images_.size(0), images_.size(2),
                                static_cast<uint64_t>(config_.seed), epoch_, step_);
  const at::Tensor logits = model_->forward(mix_images(images_, mixes)).to(at::kFloat);
  return at::cross_entropy_loss(
      logits, mix_labels(labels_, mixes, config_.classes, config_.label_smoothing));
}

torch::Tensor ClassifyTask::next_loss() {
  fetch();
  if (config_.mix.on(epoch_)) {
    const at::Tensor loss = mixed_loss();
    ++step_;
    return loss;
  }
  ++step_;
  const at::Tensor logits = model_->forward(images_).to(at::kFloat);
  return at::cross_entropy_loss(logits, labels_, {}, at::Reduction::Mean, /*ignore_index=*/-100,
                                config_.label_smoothing);
}

vision::Metrics ClassifyTask::evaluate() {
  last_ = classify::evaluate(model_, *eval_, config_, device_, kReportExamples);
  return {{"loss", last_.loss}, {"top1", last_.top1}, {"top5", last_.top5}};
}

std::map<std::string, std::string> ClassifyTask::weights_metadata() const {
  return make_metadata(config_, train_->classes());
}

std::vector<std::pair<std::string, std::string>> ClassifyTask::report_sections() {
  return classify::report_sections(last_, train_->classes(), first_batch_, config_);
}

}  // namespace comba::classify
