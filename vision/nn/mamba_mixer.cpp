#include "vision/nn/mamba_mixer.h"

#include "kernels/block/causal_conv.h"
#include "kernels/selective_scan/selective_scan.h"
#include "vision/nn/layers.h"
#include "vision/nn/linear.h"

#include <cmath>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/roll.h>

namespace comba::vision {
namespace {

torch::nn::Linear plain_linear(int64_t in, int64_t out, bool bias = false) {
  return torch::nn::Linear(torch::nn::LinearOptions(in, out).bias(bias));
}

// Steps log-uniform in (.001, .1): their inverse softplus.
torch::Tensor initial_delta_bias(int64_t channels) {
  const torch::Tensor delta =
      at::empty({channels}).uniform_(std::log(0.001), std::log(0.1)).exp_().clamp_min_(1e-4);
  return delta + (-delta).expm1().neg().log();
}

}  // namespace

// Linears keep PyTorch's initialisation, that of the output divided by the root of the number of layers.
MambaMixer::MambaMixer(const BackboneConfig& config) {
  const int64_t inner = inner_width(config.width);
  in_proj = register_module("in_proj", plain_linear(config.width, 2 * inner));
  directions[0] = make_direction(config.width, "", "A_log");
  directions[1] = make_direction(config.width, "_b", "A_b_log");
  out_proj = register_module("out_proj", plain_linear(inner, config.width));
  const at::NoGradGuard no_grad;
  out_proj->weight.div_(std::sqrt(static_cast<double>(config.depth)));
}

MambaMixer::Direction MambaMixer::make_direction(int64_t width, const char* suffix,
                                                 const char* rate_name) {
  const int64_t inner = inner_width(width), rank = delta_rank(width);
  const std::string end = suffix;
  Direction direction;
  direction.conv1d = register_module(
      "conv1d" + end,
      torch::nn::Conv1d(torch::nn::Conv1dOptions(inner, inner, kTaps).groups(inner)));
  direction.x_proj = register_module("x_proj" + end, plain_linear(inner, rank + 2 * kStates));
  direction.dt_proj = register_module("dt_proj" + end, plain_linear(rank, inner, /*bias=*/true));
  direction.A_log = register_parameter(
      rate_name, at::arange(1, kStates + 1, torch::kFloat).log().unsqueeze(0).repeat({inner, 1}));
  direction.D = register_parameter("D" + end, at::ones({inner}));
  const at::NoGradGuard no_grad;
  const double bound = 1.0 / std::sqrt(static_cast<double>(rank));
  direction.dt_proj->weight.uniform_(-bound, bound);
  direction.dt_proj->bias.copy_(initial_delta_bias(inner));
  return direction;
}

torch::Tensor MambaMixer::scanned(size_t r, const torch::Tensor& x, const torch::Tensor& z) const {
  const Direction& direction = directions[r];
  const bool reverse = r == 1;
  const torch::Tensor u = kernels::causal_conv(x, direction.conv1d->weight.squeeze(1),
                                               direction.conv1d->bias, {true, reverse});
  const torch::Tensor projected = linear_with_bias(direction.x_proj, u);
  const int64_t rank = direction.dt_proj->weight.size(1);
  kernels::SelectiveScanInputs inputs;
  inputs.u = u;
  inputs.delta = linear_with_bias(projected.narrow(2, 0, rank), direction.dt_proj->weight, {});
  inputs.A = -direction.A_log.exp();
  inputs.B = projected.narrow(2, rank, kStates);
  inputs.C = projected.narrow(2, rank + kStates, kStates);
  inputs.D = direction.D;
  inputs.z = z;
  inputs.delta_bias = direction.dt_proj->bias;
  return kernels::selective_scan(inputs, reverse);
}

// With a prefix the second direction reads it from its end, then the rest from its end, as CombaMixer's.
torch::Tensor MambaMixer::forward(const torch::Tensor& x, int64_t prefix) {
  const auto rows = linear_with_bias(in_proj, x).chunk(2, 2);  // x, z: [B, T, C]
  const auto turned = [&](const torch::Tensor& y, int64_t by) {
    return prefix > 0 ? at::roll(y, by, 1) : y;
  };
  const torch::Tensor first = scanned(0, rows[0], rows[1]);
  const torch::Tensor second =
      turned(scanned(1, turned(rows[0], -prefix), turned(rows[1], -prefix)), prefix);
  return linear_with_bias(out_proj, (first + second) * 0.5);
}

}  // namespace comba::vision
