#include "classify/classifier.h"

#include <ATen/core/grad_mode.h>

namespace comba::classify {

ClassifierImpl::ClassifierImpl(const vision::BackboneConfig& config, int64_t classes)
    : BackboneImpl(config), classes_(classes) {
  head = register_module("head", torch::nn::Linear(config.width, classes));
  const at::NoGradGuard no_grad;
  // Truncated normal of timm: the bounds are +-2, a hundred standard deviations away.
  head->weight.normal_(0.0, 0.02).clamp_(-2.0, 2.0);
  head->bias.zero_();
}

torch::Tensor ClassifierImpl::forward(const torch::Tensor& images) {
  return head->forward(BackboneImpl::forward(images));
}

}  // namespace comba::classify
