#include "vision/nn/short_conv.h"

#include "kernels/composed/composed_operators.h"

#include <algorithm>
#include <cmath>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

namespace comba::vision {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kBatchAndTimeDims[] = {0, 1};
constexpr at::IntArrayRef kBatchAndTime = kBatchAndTimeDims;

// Token t of `late` meets token t - shift of `early`, for every t where both exist.
struct Overlap {
  at::Tensor late, early;
};
Overlap overlap(const at::Tensor& late, const at::Tensor& early, int64_t shift) {
  const int64_t length = std::max<int64_t>(0, late.size(1) - shift);
  return {late.narrow(1, late.size(1) - length, length), early.narrow(1, 0, length)};
}

// Adds each tap in place: autograd's own record of shifted slices would fill and add a whole tensor per tap.
struct CausalConv : torch::autograd::Function<CausalConv> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& rows,
                            bool reverse) {
    context->save_for_backward({x, rows});
    context->saved_data["reverse"] = reverse;
    const int64_t last = rows.size(0) - 1;
    at::Tensor y = x * rows[last];
    for (int64_t shift = 1; shift <= last; ++shift) {
      // Forward, y late = x early; in reverse y early = x late.
      auto [late, early] = reverse ? overlap(x, y, shift) : overlap(y, x, shift);
      (reverse ? early : late).addcmul_(reverse ? late : early, rows[last - shift]);
    }
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &rows = saved[1], &dy = gradients[0];
    const bool reverse = context->saved_data["reverse"].toBool();
    const int64_t last = rows.size(0) - 1;
    at::Tensor dx = dy * rows[last];
    at::Tensor drows = at::empty(rows.sizes(), rows.options());
    drows[last].copy_((dy * x).sum(kBatchAndTime));
    for (int64_t shift = 1; shift <= last; ++shift) {
      auto [late, early] = reverse ? overlap(dx, dy, shift) : overlap(dy, dx, shift);
      (reverse ? late : early).addcmul_(reverse ? early : late, rows[last - shift]);
      const auto [a, b] = reverse ? overlap(x, dy, shift) : overlap(dy, x, shift);
      drows[last - shift].copy_((a * b).sum(kBatchAndTime));
    }
    return {dx, drows, {}};
  }
};

}  // namespace

torch::Tensor causal_conv(const torch::Tensor& x, const torch::Tensor& weight, bool reverse) {
  const torch::Tensor rows = weight.to(x.scalar_type()).squeeze(1).t().contiguous();  // [taps, C]
  // Its shifted slices are written in place, which a recorded graph cannot say to every program.
  return kernels::is_recording() ? kernels::composed_causal_conv(x, rows, reverse)
                                 : CausalConv::apply(x, rows, reverse);
}

ShortConvImpl::ShortConvImpl(int64_t channels, int64_t taps)
    : weight(register_parameter("weight", at::empty({channels, 1, taps}))) {
  const at::NoGradGuard no_grad;
  const double bound =
      1.0 / std::sqrt(static_cast<double>(taps));  // PyTorch's bound for this fan-in
  weight.uniform_(-bound, bound);
}

}  // namespace comba::vision
