// Training a tracker as a task of the training loop.
#pragma once

#include "tracking/config.h"
#include "tracking/pair_loader.h"
#include "vision/engine/distributed.h"
#include "vision/engine/task.h"
#include "vision/nn/normaliser.h"

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace comba::tracking {

class TrackTask final : public vision::Task {
 public:
  // Reads the annotations, seeds LibTorch's generators, makes the network on `device`.
  // One of several ranks takes its share of the batches and of the evaluation.
  TrackTask(const TrackConfig& config, const c10::Device& device,
            std::shared_ptr<vision::Ranks> ranks = vision::alone());

  torch::nn::Module& model() override { return *network_; }
  int64_t steps_per_epoch() const override { return train_->batches_per_epoch(); }
  int64_t batch_size() const override { return config_.train.batch_size; }
  void start_epoch(int64_t epoch, int64_t first_step) override;
  // {template crops, search crops, boxes}
  std::vector<torch::Tensor> next_batch() override;
  std::vector<std::string> batch_names() const override { return batch_.names; }
  torch::Tensor loss(const std::vector<torch::Tensor>& batch) override;
  double lr_scale(const std::string& parameter) const override;
  double data_wait_seconds() const override { return data_wait_; }
  // Over the same pairs every time: the losses, and IoU of the boxes that the highest cells give.
  vision::Metrics evaluate() override;
  std::string primary_metric() const override { return "iou"; }
  std::string data_fingerprint() const override { return fingerprint_; }
  std::map<std::string, std::string> weights_metadata() const override;
  std::vector<std::pair<std::string, std::string>> report_sections() override;

 private:
  std::unique_ptr<PairLoader> open(const std::vector<std::string>& sets,
                                   const std::vector<double>& ratios, bool training);
  std::vector<torch::Tensor> on_device(PairBatch& batch) const;  // borrows its pixels
  void keep_picture(const PairBatch& batch, const at::Tensor& boxes);

  TrackConfig config_;
  c10::Device device_;
  std::shared_ptr<vision::Ranks> ranks_;
  vision::Normaliser normalise_;
  std::string fingerprint_;
  std::unique_ptr<PairLoader> train_, eval_;
  Network network_{nullptr};
  PairBatch batch_;
  double data_wait_ = 0.0;
  std::vector<std::pair<std::string, std::string>> pictures_;  // caption, PNG
};

}  // namespace comba::tracking
