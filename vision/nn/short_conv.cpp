#include "vision/nn/short_conv.h"

#include <cmath>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

namespace comba::vision {

ShortConvImpl::ShortConvImpl(int64_t channels, int64_t taps)
    : weight(register_parameter("weight", at::empty({channels, 1, taps}))) {
  const at::NoGradGuard no_grad;
  const double bound =
      1.0 / std::sqrt(static_cast<double>(taps));  // PyTorch's bound for this fan-in
  weight.uniform_(-bound, bound);
}

}  // namespace comba::vision
