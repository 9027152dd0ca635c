#include "vision/nn/layers.h"

#include "kernels/block/add_norm.h"
#include "kernels/block/bias_gelu.h"
#include "kernels/block/mlp.h"
#include "kernels/block/patch_rows.h"
#include "vision/nn/batch_share.h"
#include "vision/nn/linear.h"

#include <cmath>

#include <ATen/autocast_mode.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/grad_mode.h>

namespace comba::vision {
namespace {

// Statistics are taken in fp32 for half-width inputs.
torch::Tensor widened(const torch::Tensor& x) {
  const auto dtype = x.scalar_type();
  return dtype == torch::kHalf || dtype == torch::kBFloat16 ? x.to(torch::kFloat) : x;
}

// y = x / sqrt(r(x^2) + eps) over the last dimension, where r is its mean or its sum. With s the divisor's inverse,
// dx = s (dy - y r(y dy)): three passes fewer each way than autograd's own record of the formula.
struct Normalize : torch::autograd::Function<Normalize> {
  static at::Tensor reduced(const at::Tensor& x, bool mean) {
    return mean ? x.mean(-1, true) : x.sum(-1, true);
  }

  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            bool mean, double eps) {
    const at::Tensor scale = reduced(x.square(), mean).add_(eps).rsqrt_();
    const at::Tensor y = x * scale;
    context->save_for_backward({y, scale});
    context->saved_data["mean"] = mean;
    return y;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &y = saved[0], &scale = saved[1], &dy = gradients[0];
    const at::Tensor along = reduced(y * dy, context->saved_data["mean"].toBool());
    return {at::addcmul(dy, y, along, -1.0).mul_(scale), {}, {}};
  }
};

torch::Tensor rms_normalize(const torch::Tensor& x, const torch::Tensor& weight, double eps) {
  return (Normalize::apply(widened(x), /*mean=*/true, eps) * weight).to(x.scalar_type());
}

}  // namespace

at::ScalarType product_dtype(const torch::Tensor& x) {
  return x.is_cuda() && at::autocast::is_autocast_enabled(at::kCUDA)
             ? at::autocast::get_autocast_dtype(at::kCUDA)
             : x.scalar_type();
}

void truncated_normal_(const torch::Tensor& tensor, double std) {
  const torch::NoGradGuard no_grad;
  // Inverse of the normal distribution function over the uniform interval between the bounds.
  const auto below = [&](double x) { return 0.5 * (1.0 + std::erf(x / std / std::sqrt(2.0))); };
  const double low = 2.0 * below(-2.0) - 1.0, high = 2.0 * below(2.0) - 1.0;
  torch::Tensor values = at::empty(tensor.sizes(), tensor.options().dtype(torch::kDouble));
  values.uniform_(low, high).erfinv_().mul_(std * std::sqrt(2.0)).clamp_(-2.0, 2.0);
  torch::Tensor(tensor).copy_(values);
}

torch::nn::Linear make_linear(int64_t in, int64_t out, bool bias) {
  torch::nn::Linear linear(torch::nn::LinearOptions(in, out).bias(bias));
  truncated_normal_(linear->weight, 0.02);
  if (bias) {
    const torch::NoGradGuard no_grad;
    linear->bias.zero_();
  }
  return linear;
}

NormImpl::NormImpl(const std::string& kind, int64_t size, double eps)
    : weight(register_parameter("weight", at::ones({size}))), eps_(eps) {
  if (kind == "layer") {
    bias = register_parameter("bias", at::zeros({size}));
  }
}

torch::Tensor NormImpl::forward(const torch::Tensor& x) {
  return bias.defined() ? at::layer_norm(x, weight.sizes(), weight, bias, eps_)
                        : rms_normalize(x, weight, eps_);
}

torch::Tensor NormImpl::take(TokenStream& stream) {
  if (stream.sum.is_cuda()) {
    const auto [sum, y] = kernels::add_norm(
        {stream.sum, stream.branch, stream.share, weight, bias},
        {.eps = eps_, .centred = bias.defined(), .dtype = product_dtype(stream.sum)});
    stream = {sum, {}, {}};
    return y;
  }
  if (stream.branch.defined()) {
    const torch::Tensor share =
        stream.share.defined() ? stream.share.view({-1, 1, 1}) : stream.share;
    stream = {share.defined() ? at::addcmul(stream.sum, stream.branch, share)
                              : stream.sum + stream.branch,
              {},
              {}};
  }
  return forward(stream.sum);
}

MlpImpl::MlpImpl(int64_t width, int64_t hidden, bool bias)
    : fc1(register_module("fc1", make_linear(width, hidden, bias))),
      fc2(register_module("fc2", make_linear(hidden, width, bias))) {}

torch::Tensor MlpImpl::forward(const torch::Tensor& x) {
  const at::ScalarType dtype = product_dtype(x);
  if (fc2->weight.size(0) == x.size(-1) &&
      kernels::mlp_is_one_kernel(x, dtype, fc1->weight.size(0))) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    return kernels::mlp({x.to(dtype), fc1->weight, fc1->bias, fc2->weight, fc2->bias});
  }
  return linear_with_bias(fc2, x.is_cuda()
                                   ? kernels::bias_gelu(at::linear(x, fc1->weight), fc1->bias)
                                   : at::gelu(linear_with_bias(fc1, x)));
}

PatchEmbedImpl::PatchEmbedImpl(int64_t channels, int64_t width, int64_t patch_size)
    : proj(register_module(
          "proj", torch::nn::Conv2d(
                      torch::nn::Conv2dOptions(channels, width, patch_size).stride(patch_size)))) {}

torch::Tensor PatchEmbedImpl::forward(const torch::Tensor& images) {
  const torch::Tensor patches =
      kernels::patch_rows(images, proj->options.stride()->at(0), product_dtype(images));
  return linear_with_bias(patches, proj->weight.flatten(1), proj->bias);
}

torch::Tensor draw_share(int64_t batch, double rate, bool training,
                         const at::TensorOptions& options) {
  if (!training || rate <= 0.0) {
    return {};
  }
  const BatchShare& share = batch_share();
  const double keep = 1.0 - rate;
  return at::empty({batch * share.size}, options)
      .bernoulli_(keep)
      .div_(keep)
      .narrow(0, share.rank * batch, batch);
}

torch::Tensor l2_normalize(const torch::Tensor& x, double eps) {
  return Normalize::apply(widened(x), /*mean=*/false, eps).to(x.scalar_type());
}

}  // namespace comba::vision
