// The recall tasks as a task of the training loop.
#pragma once

#include "classify/recall/config.h"
#include "classify/recall/examples.h"
#include "classify/recall/model.h"
#include "vision/engine/distributed.h"
#include "vision/engine/task.h"

#include <future>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace comba::recall {

class RecallTask final : public vision::Task {
 public:
  // Seeds LibTorch's generators, makes the model on `device`. One of several ranks takes its share of all examples.
  RecallTask(const RecallConfig& config, const c10::Device& device,
             std::shared_ptr<vision::Ranks> ranks = vision::alone());

  torch::nn::Module& model() override { return *model_; }
  int64_t steps_per_epoch() const override { return config_.data.samples / batch_size(); }
  int64_t batch_size() const override { return config_.train.batch_size; }
  void start_epoch(int64_t epoch, int64_t first_step) override;
  // {input, asked, answers}, see Examples
  std::vector<torch::Tensor> next_batch() override;
  // Cross entropy over the values: the mean over a batch's examples of the mean over an example's questions.
  torch::Tensor loss(const std::vector<torch::Tensor>& batch) override;
  double data_wait_seconds() const override { return data_wait_; }
  // Of the questions: loss, percentage answered (accuracy) and, of pictures, that of questions behind and ahead of their pair.
  vision::Metrics evaluate() override;
  std::string primary_metric() const override { return "accuracy"; }
  std::string data_fingerprint() const override;
  std::map<std::string, std::string> weights_metadata() const override;
  // By the distance from pair to question, of the last evaluation: {"16 to 31 tokens behind the pair", "99.20 % of 512"}.
  std::vector<std::pair<std::string, std::string>> by_distance() const;
  std::vector<std::pair<std::string, std::string>> report_sections() override;

 private:
  Examples make_batch(int64_t epoch, int64_t step) const;
  std::vector<int64_t> share_of(int64_t first, int64_t end) const;
  std::vector<torch::Tensor> on_device(const Examples& examples) const;
  vision::Metrics metrics(double loss) const;  // of what right_ and asked_ count

  RecallConfig config_;
  c10::Device device_;
  std::shared_ptr<vision::Ranks> ranks_;
  std::shared_ptr<RecallModel> model_;
  int64_t epoch_ = 0, step_ = 0;
  std::future<Examples> ahead_;  // the next batch's, made while the device works
  double data_wait_ = 0.0;
  std::vector<double> right_, asked_;  // of the last evaluation, by distance
};

}  // namespace comba::recall
