// What the training loop needs from a task (classification, tracking).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/nn/module.h>

namespace comba::vision {

// Named figures in the order in which they are printed, e.g. {"loss", .31}, {"top1", 97.9}.
using Metrics = std::vector<std::pair<std::string, double>>;

class Task {
 public:
  virtual ~Task() = default;

  virtual torch::nn::Module& model() = 0;
  // Data: epochs of a fixed number of steps. start() seeks; the batches that follow depend on nothing else.
  virtual int64_t steps_per_epoch() const = 0;
  virtual int64_t batch_size() const = 0;
  virtual void start_epoch(int64_t epoch, int64_t first_step) = 0;
  // Fetches the next batch: what its loss depends on, on the model's device. All tensors' first dimension is the batch's;
  // shapes and dtypes seldom change: on CUDA a change costs the recording of the step.
  virtual std::vector<torch::Tensor> next_batch() = 0;
  // What the samples of the batch fetched last are called, this rank's share; empty: not known.
  virtual std::vector<std::string> batch_names() const { return {}; }
  // A batch's scalar loss in fp32, differentiable. On CUDA it neither waits for the device nor depends on anything but the
  // batch, the weights and LibTorch's generators: it may be recorded once and replayed.
  virtual torch::Tensor loss(const std::vector<torch::Tensor>& batch) = 0;
  torch::Tensor next_loss() { return loss(next_batch()); }
  // The share of the learning rate that a parameter has.
  virtual double lr_scale(const std::string& /*parameter*/) const { return 1.0; }
  // Seconds spent waiting for data so far.
  virtual double data_wait_seconds() const { return 0.0; }
  // Where those that make the data spend their time, by stage, seconds so far as if of one thread: their shares of the time
  // passed show which stage holds the others up. Empty: not known.
  virtual Metrics data_stage_seconds() const { return {}; }
  // Evaluates `model` (the raw or the averaged weights) on the held-out data.
  virtual Metrics evaluate() = 0;
  // The metric that picks the best checkpoint (larger is better).
  virtual std::string primary_metric() const = 0;
  // Identifies the training data in a checkpoint; resuming with other data is refused.
  virtual std::string data_fingerprint() const = 0;
  // Weights' metadata (class names, normalisation), stored in the safetensors header.
  virtual std::map<std::string, std::string> weights_metadata() const = 0;
  // Called once at the end of training and after each evaluation so that the task can add figures
  // (confusion matrix, predictions) to the report. Returns HTML fragments.
  virtual std::vector<std::pair<std::string, std::string>> report_sections() { return {}; }
};

}  // namespace comba::vision
