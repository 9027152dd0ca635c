// An exponential average of the weights.
#pragma once

#include "vision/io/safetensors.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

namespace comba::vision {

class WeightAverage {
 public:
  // Starts as a copy of the model's parameters and buffers.
  WeightAverage(const torch::nn::Module& model, double decay);

  // average += (1 - d) (weights - average), d = min(decay, (1 + updates) / (10 + updates)): the warm-up keeps
  // the random initial weights from staying in the average of a short run.
  void update();
  NamedTensors state() const;
  void load_state(const std::map<std::string, at::Tensor>& state, int64_t updates);
  int64_t updates() const { return updates_; }

  // While alive, the model holds the average; the exact raw weights come back at the end.
  class Scope {
   public:
    explicit Scope(WeightAverage& average);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    WeightAverage& average_;
    std::vector<at::Tensor> saved_;
  };

 private:
  double decay_;
  int64_t updates_ = 0;
  std::vector<std::string> names_;
  std::vector<at::Tensor> weights_, average_;  // pairwise of one shape
};

}  // namespace comba::vision
