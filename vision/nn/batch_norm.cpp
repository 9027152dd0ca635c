#include "vision/nn/batch_norm.h"

#include "vision/nn/batch_share.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

namespace comba::vision {
namespace {

// Every part's loss depends on the sum, so its gradient is the sum of theirs.
class SumOfParts : public torch::autograd::Function<SumOfParts> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* /*context*/,
                               const torch::Tensor& x) {
    const torch::Tensor sum = x.clone();
    batch_share().sum(sum);
    return sum;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* /*context*/,
                                                 torch::autograd::variable_list gradients) {
    const torch::Tensor sum = gradients[0].clone();
    batch_share().sum(sum);
    return {sum};
  }
};

}  // namespace

torch::Tensor BatchNorm2dImpl::forward(const torch::Tensor& x) {
  const int64_t parts = batch_share().size;
  if (!is_training() || parts == 1) {
    return torch::nn::BatchNorm2dImpl::forward(x);
  }
  const torch::Tensor wide = x.to(torch::kFloat);
  const int64_t summands = x.numel() / x.size(1) * parts;
  const auto count = static_cast<double>(summands);
  const auto mean_of = [&](const torch::Tensor& values) {  // [C]
    return SumOfParts::apply(values.sum({0, 2, 3}).contiguous()) / count;
  };
  const auto channels = [](const torch::Tensor& values) { return values.view({1, -1, 1, 1}); };
  const torch::Tensor mean = mean_of(wide);
  const torch::Tensor centred = wide - channels(mean);
  const torch::Tensor variance = mean_of(centred.square());
  {
    const at::NoGradGuard no_grad;
    const double momentum = options.momentum().value_or(0.1);
    running_mean.lerp_(mean.detach(), momentum);
    running_var.lerp_(variance.detach() * (count / (count - 1)), momentum);
    num_batches_tracked.add_(1);
  }
  const torch::Tensor scale = weight * (variance + options.eps()).rsqrt();
  return (centred * channels(scale) + channels(bias)).to(x.scalar_type());
}

}  // namespace comba::vision
