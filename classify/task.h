// Image classification as a task of the training loop.
#pragma once

#include "classify/classifier.h"
#include "classify/config.h"
#include "classify/distillation.h"
#include "classify/evaluate.h"
#include "classify/stream.h"
#include "classify/training_batches.h"
#include "vision/engine/distributed.h"
#include "vision/engine/task.h"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace comba::classify {

class ClassifyTask final : public vision::Task {
 public:
  // Opens the data, seeds LibTorch's generators, makes the model on `device`.
  // One of several ranks takes its share of the batches and of the evaluation.
  ClassifyTask(const RunConfig& config, const c10::Device& device,
               std::shared_ptr<vision::Ranks> ranks = vision::alone());

  torch::nn::Module& model() override { return *model_; }
  Classifier& classifier() { return model_; }
  int64_t steps_per_epoch() const override { return train_.stream().batches_per_epoch(); }
  int64_t batch_size() const override { return config_.train.batch_size; }
  void start_epoch(int64_t epoch, int64_t first_step) override { train_.start(epoch, first_step); }
  // {images, targets}: labels [B], or [B, K] where images are mixed
  std::vector<torch::Tensor> next_batch() override;
  std::vector<std::string> batch_names() const override { return train_.names(); }
  torch::Tensor loss(const std::vector<torch::Tensor>& batch) override;
  double lr_scale(const std::string& parameter) const override;
  double data_wait_seconds() const override { return train_.wait_seconds(); }
  vision::Metrics data_stage_seconds() const override { return train_.stage_seconds(); }
  vision::Metrics evaluate() override;
  std::string primary_metric() const override { return "top1"; }
  std::string data_fingerprint() const override { return train_.stream().fingerprint(); }
  std::map<std::string, std::string> weights_metadata() const override;
  std::vector<std::pair<std::string, std::string>> report_sections() override;

 private:
  at::Tensor label_loss(const at::Tensor& logits, const at::Tensor& targets) const;

  RunConfig config_;
  c10::Device device_;
  std::shared_ptr<vision::Ranks> ranks_;
  TrainingBatches train_;
  std::unique_ptr<BatchStream> eval_;
  Classifier model_{nullptr};
  std::optional<Teacher> teacher_;
  std::vector<datasets::SheetTile> first_images_;  // of the run, for the report
  Evaluation last_;
};

}  // namespace comba::classify
