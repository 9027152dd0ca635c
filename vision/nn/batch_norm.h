// Batch normalisation over the whole batch, also where several processes share it.
#pragma once

#include <torch/nn/modules/batchnorm.h>

namespace comba::vision {

// By itself it is LibTorch's. Else the mean and the variance are those of all parts (vision/nn/batch_share.h), in fp32.
class BatchNorm2dImpl : public torch::nn::BatchNorm2dImpl {
 public:
  using torch::nn::BatchNorm2dImpl::BatchNorm2dImpl;
  torch::Tensor forward(const torch::Tensor& x);  // [B, C, H, W]
};
TORCH_MODULE(BatchNorm2d);

}  // namespace comba::vision
