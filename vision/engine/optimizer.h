// Optimizers with decay groups, on LibTorch's fused kernels where there are any (update_rules.h).
#pragma once

#include "vision/engine/train_options.h"
#include "vision/engine/update_rules.h"
#include "vision/io/safetensors.h"

#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

namespace comba::vision {

struct OptimizerOptions {
  UpdateRule rule = UpdateRule::adamw;
  UpdateOptions update;
  double weight_decay = 0.05;
  double clip_grad = 0.0;  // global gradient norm; 0: off
  bool decay_all = false;  // takes_weight_decay() is not asked
  // The share of the learning rate that a parameter has, by its name; by default all of it.
  std::function<double(const std::string&)> lr_scale;
};

// What the training keys say of the optimizer.
OptimizerOptions optimizer_options(const TrainOptions& train);

// True for matrices and convolutions; false for vectors, scalars, biases, position embeddings, class tokens
// and the recurrence's own parameters (A_log, dt_bias, D, decay), whatever their shape.
bool takes_weight_decay(const std::string& name, const at::Tensor& parameter);

class Optimizer {
 public:
  Optimizer(const torch::nn::Module& model, const OptimizerOptions& options);

  // The rate of the steps to come.
  void set_lr(double lr);
  // Clips, then applies one update and drops the gradients. A step whose gradient norm is not finite
  // changes nothing but the count of skipped steps. Nothing here waits for the device.
  void step();
  void step(double lr) {
    set_lr(lr);
    step();
  }
  void zero_grad();

  // Steps skipped so far, and the last gradient norm before clipping. Both wait for the device.
  double skipped() const;
  double gradient_norm() const;
  const at::Tensor& last_norm() const { return norm_; }  // the latter, 0-d fp32 on the device

  // Moments ("exp_avg.head.weight", "exp_avg_sq.head.weight"; SGD: "momentum.head.weight") and counters.
  NamedTensors state() const;
  // Throws Error naming the first tensor that is missing, unknown or of another shape.
  void load_state(const std::map<std::string, at::Tensor>& state);

 private:
  struct Slot {
    std::string name;
    at::Tensor parameter, mean, square;  // all of one shape; SGD has no square
    bool decay;
    double lr_scale;
  };
  void update(const at::Tensor& skip, const at::Tensor& factor, bool decay, double lr_scale);

  OptimizerOptions options_;
  std::vector<Slot> slots_;
  std::set<std::pair<bool, double>> groups_;  // of decay and share of the rate
  at::Tensor lr_, steps_, skipped_, norm_;    // 0-d fp32 on the model's device
};

}  // namespace comba::vision
