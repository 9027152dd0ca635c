#include "vision/engine/ema.h"

#include "vision/base/error.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_lerp.h>

namespace comba::vision {

WeightAverage::WeightAverage(const torch::nn::Module& model, double decay) : decay_(decay) {
  const auto take = [&](const std::string& name, const at::Tensor& tensor) {
    names_.push_back(name);
    weights_.push_back(tensor.detach());  // shares storage with the model
    average_.push_back(tensor.detach().clone());
  };
  for (const auto& item : model.named_parameters()) {
    take(item.key(), item.value());
  }
  for (const auto& item : model.named_buffers()) {
    take(item.key(), item.value());
  }
}

void WeightAverage::update() {
  const at::NoGradGuard no_grad;
  const auto n = static_cast<double>(updates_++);
  const double decay = std::min(decay_, (1.0 + n) / (10.0 + n));
  std::vector<at::Tensor> average, weights;
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i].is_floating_point()) {
      average.push_back(average_[i]);
      weights.push_back(weights_[i]);
    } else {
      average_[i].copy_(weights_[i]);
    }
  }
  at::_foreach_lerp_(average, weights, 1.0 - decay);
}

NamedTensors WeightAverage::state() const {
  NamedTensors state;
  for (size_t i = 0; i < names_.size(); ++i) {
    state.emplace_back(names_[i], average_[i]);
  }
  return state;
}

void WeightAverage::load_state(const std::map<std::string, at::Tensor>& state, int64_t updates) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < names_.size(); ++i) {
    const auto found = state.find(names_[i]);
    COMBA_CHECK(found != state.end() && found->second.sizes() == average_[i].sizes(),
                "restoring the weight average: tensor {} is missing or has another shape",
                names_[i]);
    average_[i].copy_(found->second);
  }
  updates_ = updates;
}

WeightAverage::Scope::Scope(WeightAverage& average) : average_(average) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < average.weights_.size(); ++i) {
    saved_.push_back(average.weights_[i].clone());
    average.weights_[i].copy_(average.average_[i]);
  }
}

WeightAverage::Scope::~Scope() {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < saved_.size(); ++i) {
    average_.weights_[i].copy_(saved_[i]);
  }
}

}  // namespace comba::vision
