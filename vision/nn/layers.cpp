#include "vision/nn/layers.h"

#include <cmath>

#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/grad_mode.h>

namespace comba::vision {
namespace {

// Statistics are taken in fp32 for half-width inputs.
torch::Tensor widened(const torch::Tensor& x) {
  const auto dtype = x.scalar_type();
  return dtype == torch::kHalf || dtype == torch::kBFloat16 ? x.to(torch::kFloat) : x;
}

torch::Tensor rms_normalize(const torch::Tensor& x, const torch::Tensor& weight, double eps) {
  const torch::Tensor wide = widened(x);
  const torch::Tensor scale = wide.square().mean(-1, true).add(eps).rsqrt();
  return (wide * scale * weight).to(x.scalar_type());
}

}  // namespace

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

MlpImpl::MlpImpl(int64_t width, int64_t hidden, bool bias)
    : fc1(register_module("fc1", make_linear(width, hidden, bias))),
      fc2(register_module("fc2", make_linear(hidden, width, bias))) {}

torch::Tensor MlpImpl::forward(const torch::Tensor& x) { return fc2(at::gelu(fc1(x))); }

PatchEmbedImpl::PatchEmbedImpl(int64_t channels, int64_t width, int64_t patch_size)
    : proj(register_module("proj", torch::nn::Conv2d(torch::nn::Conv2dOptions(channels, width, patch_size)
                                                         .stride(patch_size)))) {}

torch::Tensor PatchEmbedImpl::forward(const torch::Tensor& images) {
  return proj(images).flatten(2).transpose(1, 2);
}

torch::Tensor drop_path(const torch::Tensor& branch, double rate, bool training) {
  if (!training || rate <= 0.0) {
    return branch;
  }
  std::vector<int64_t> shape(branch.dim(), 1);
  shape[0] = branch.size(0);
  const double keep = 1.0 - rate;
  const torch::Tensor mask = at::empty(shape, branch.options().requires_grad(false)).bernoulli_(keep);
  return branch * mask.div_(keep);
}

torch::Tensor l2_normalize(const torch::Tensor& x, double eps) {
  const torch::Tensor wide = widened(x);
  return (wide * wide.square().sum(-1, true).add(eps).rsqrt()).to(x.scalar_type());
}

}  // namespace comba::vision
