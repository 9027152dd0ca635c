// A backbone with a linear head; parameters carry timm-like names ("blocks.0.norm1.weight", "head.weight").
#pragma once

#include "vision/backbone.h"

#include <cstdint>

#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

namespace comba::classify {

class ClassifierImpl : public vision::BackboneImpl {
 public:
  ClassifierImpl(const vision::BackboneConfig& config, int64_t classes);
  // images: [B, C, S, S] float (normalised) -> logits [B, classes]
  torch::Tensor forward(const torch::Tensor& images);
  int64_t classes() const { return classes_; }

  torch::nn::Linear head{nullptr};

 private:
  int64_t classes_;
};
TORCH_MODULE(Classifier);

}  // namespace comba::classify
