#include "classify/task.h"

#include "classify/bundle.h"
#include "classify/report_sections.h"
#include "vision/base/error.h"
#include "vision/base/log.h"
#include "vision/engine/import_weights.h"
#include "vision/engine/weights.h"
#include "vision/io/weights_file.h"
#include "vision/layer_decay.h"

#include <utility>

#include <ATen/Context.h>
#include <ATen/ops/binary_cross_entropy_with_logits.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/lerp.h>

namespace comba::classify {
namespace {

constexpr int64_t kReportExamples = 24, kReportImages = 32;

RunConfig shared_out(RunConfig config, const vision::Ranks& ranks) {
  config.rank = ranks.rank();
  config.ranks = ranks.size();
  return config;
}

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

vision::KeyDiff begin_with(const std::string& path, Classifier& model) {
  const std::filesystem::path weights = vision::find_weights(path, "auto");
  return vision::import_weights(*model, vision::load_weights_file(weights, "auto").tensors,
                                vision::WeightsUse::training, weights);
}

// Class indices [B], or what is wanted of each class [B, K].
at::Tensor targets_of(const TrainingBatch& batch, const RunConfig& config) {
  if (config.loss == "bce") {
    return mix_labels(batch.labels, batch.mixes, config.classes, 0.0).gt(0).to(at::kFloat);
  }
  return batch.mixes.empty()
             ? batch.labels
             : mix_labels(batch.labels, batch.mixes, config.classes, config.label_smoothing);
}

}  // namespace

ClassifyTask::ClassifyTask(const RunConfig& config, const c10::Device& device,
                           std::shared_ptr<vision::Ranks> ranks)
    : config_(shared_out(config, *ranks)),
      device_(device),
      ranks_(std::move(ranks)),
      train_(config_, device),
      eval_(open_stream(config_, Purpose::evaluation)) {
  const BatchStream& train = train_.stream();
  COMBA_CHECK(
      train.classes() == eval_->classes(),
      "opening the data: the training images have {} classes, the evaluation images {}, or their "
      "names differ; both need the same classes",
      train.classes().size(), eval_->classes().size());
  config_.classes = class_count(config_, train);
  at::manual_seed(static_cast<uint64_t>(config.seed));
  model_ = Classifier(config_.model, config_.classes);
  if (!config_.init.empty()) {
    const vision::KeyDiff diff =
        taking("model.init", [&] { return begin_with(config_.init, model_); });
    if (ranks_->first()) {
      vision::log_key_diff(diff, config_.init);
    }
  }
  model_->to(device);
  if (!config.distill.teacher.empty()) {
    teacher_.emplace(config_, train.classes(), device);
  }
  log::info("training on {} images in {} classes, evaluating on {}", train.size(),
            train.classes().size(), eval_->size());
}

std::vector<torch::Tensor> ClassifyTask::next_batch() {
  const TrainingBatch batch = train_.next();
  if (first_images_.empty()) {
    first_images_ = pictures_of(batch, train_.stream().classes(), config_.data, kReportImages);
  }
  return {batch.images, targets_of(batch, config_)};
}

torch::Tensor ClassifyTask::loss(const std::vector<torch::Tensor>& batch) {
  const at::Tensor logits = model_->forward(batch[0]).to(at::kFloat);
  const at::Tensor loss = label_loss(logits, batch[1]);
  return teacher_ ? at::lerp(loss,
                             distillation_loss(logits, teacher_->logits(batch[0]), config_.distill),
                             config_.distill.weight)
                  : loss;
}

at::Tensor ClassifyTask::label_loss(const at::Tensor& logits, const at::Tensor& targets) const {
  if (config_.loss == "bce") {
    return at::binary_cross_entropy_with_logits(logits, targets);
  }
  const bool smoothed = targets.dim() == 2;  // already
  return at::cross_entropy_loss(logits, targets, {}, at::Reduction::Mean, /*ignore_index=*/-100,
                                smoothed ? 0.0 : config_.label_smoothing);
}

double ClassifyTask::lr_scale(const std::string& parameter) const {
  return vision::layer_lr_share(parameter, config_.model.depth, config_.layer_decay);
}

vision::Metrics ClassifyTask::evaluate() {
  last_ = classify::evaluate(model_, *eval_, config_, device_, kReportExamples, ranks_.get());
  return {{"loss", last_.loss}, {"top1", last_.top1}, {"top5", last_.top5}};
}

std::map<std::string, std::string> ClassifyTask::weights_metadata() const {
  return make_metadata(config_, train_.stream().classes());
}

std::vector<std::pair<std::string, std::string>> ClassifyTask::report_sections() {
  return classify::report_sections(last_, train_.stream().classes(), first_images_, config_);
}

}  // namespace comba::classify
