#include "vision/nn/short_conv.h"

#include <cmath>

#include <ATen/ops/addcmul.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/silu.h>
#include <torch/csrc/autograd/grad_mode.h>

namespace comba::vision {

torch::Tensor causal_conv(const torch::Tensor& x, const torch::Tensor& weight, bool reverse) {
  const int64_t taps = weight.size(2), length = x.size(1);
  const torch::Tensor rows = weight.to(x.scalar_type()).squeeze(1).t();  // [taps, C]
  const torch::Tensor padded =
      at::constant_pad_nd(x, reverse ? std::vector<int64_t>{0, 0, 0, taps - 1}
                                     : std::vector<int64_t>{0, 0, taps - 1, 0});
  const auto shifted = [&](int64_t j) { return padded.narrow(1, reverse ? taps - 1 - j : j, length); };
  torch::Tensor sum = shifted(0) * rows[0];
  for (int64_t j = 1; j < taps; ++j) {
    sum = at::addcmul(sum, shifted(j), rows[j]);
  }
  return sum;
}

ShortConvImpl::ShortConvImpl(int64_t channels, int64_t taps)
    : weight(register_parameter("weight", at::empty({channels, 1, taps}))) {
  const torch::NoGradGuard no_grad;
  const double bound = 1.0 / std::sqrt(static_cast<double>(taps));  // PyTorch's bound for this fan-in
  weight.uniform_(-bound, bound);
}

torch::Tensor ShortConvImpl::forward(const torch::Tensor& x, bool reverse) {
  return at::silu(causal_conv(x, weight, reverse));
}

}  // namespace comba::vision
