#include "tracking/head.h"

#include "vision/nn/batch_norm.h"

#include <numbers>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/stack.h>
#include <torch/nn/init.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/conv.h>

namespace comba::tracking {
namespace {

constexpr double kEdge = 1e-4;  // of sigmoids

torch::nn::Sequential make_branch(int64_t in, int64_t width, int64_t out) {
  torch::nn::Sequential branch;
  for (int64_t divisor = 1; divisor <= 8; divisor *= 2) {
    const int64_t next = width / divisor;
    branch->push_back(torch::nn::Conv2d(torch::nn::Conv2dOptions(in, next, 3).padding(1)));
    branch->push_back(vision::BatchNorm2d(next));
    branch->push_back(torch::nn::ReLU());
    in = next;
  }
  branch->push_back(torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, 1)));
  for (const auto& parameter : branch->parameters()) {
    if (parameter.dim() > 1) {
      torch::nn::init::xavier_uniform_(parameter);
    }
  }
  return branch;
}

torch::Tensor bounded_sigmoid(const torch::Tensor& x) {
  return x.sigmoid().clamp(kEdge, 1 - kEdge);
}

}  // namespace

CenterHeadImpl::CenterHeadImpl(int64_t in_channels, int64_t width)
    : score_(register_module("score", make_branch(in_channels, width, 1))),
      offset_(register_module("offset", make_branch(in_channels, width, 2))),
      size_(register_module("size", make_branch(in_channels, width, 2))) {}

CenterMaps CenterHeadImpl::forward(const torch::Tensor& features) {
  const auto wide = [](const torch::Tensor& x) { return x.to(torch::kFloat); };
  return {bounded_sigmoid(wide(score_->forward(features))),
          bounded_sigmoid(wide(size_->forward(features))), wide(offset_->forward(features))};
}

CenterBoxes decode(const CenterMaps& maps, const torch::Tensor& window) {
  const int64_t cells = maps.score.size(-1);
  const torch::Tensor response = window.defined() ? maps.score * window : maps.score;
  const torch::Tensor at = response.flatten(1).argmax(1, /*keepdim=*/true);  // [B, 1]
  const auto pick = [&](const torch::Tensor& map) {                          // [B, channels]
    return map.flatten(2).gather(2, at.unsqueeze(1).expand({-1, map.size(1), 1})).squeeze(2);
  };
  const torch::Tensor cell = at::cat({at.remainder(cells), at.floor_divide(cells)}, 1);
  const torch::Tensor centre = (cell + pick(maps.offset)) / static_cast<double>(cells);
  return {at::cat({centre, pick(maps.size)}, 1), pick(maps.score).squeeze(1)};
}

torch::Tensor hann_window(int64_t size) {
  const torch::Tensor k = at::arange(1, size + 1, torch::kDouble);
  const torch::Tensor line =
      0.5 * (1 - at::cos(k * (2 * std::numbers::pi / static_cast<double>(size + 1))));
  return at::outer(line, line).to(torch::kFloat);
}

}  // namespace comba::tracking
