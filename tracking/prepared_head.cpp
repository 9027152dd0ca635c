#include "tracking/prepared_head.h"

#include "vision/base/error.h"
#include "vision/nn/prepared.h"

#include <algorithm>
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/cudnn_convolution_relu.h>
#include <ATen/ops/empty.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>

namespace comba::tracking {
namespace {

constexpr int64_t kOneDims[] = {1, 1};
constexpr at::IntArrayRef kOne = kOneDims;
constexpr double kEdge = 1e-4;  // as the head's sigmoids

}  // namespace

PreparedHead::Branch PreparedHead::make_branch(const torch::nn::Module& branch, int64_t column,
                                               const at::TensorOptions& options) {
  Branch prepared;
  prepared.column = column;
  const auto ready = [&](const at::Tensor& x) { return x.detach().to(options); };
  for (const auto& child : branch.children()) {
    if (const auto* convolution = child->as<torch::nn::Conv2d>()) {
      prepared.convolutions.push_back({convolution->weight.detach(), convolution->bias.detach()});
    } else if (const auto* norm = child->as<torch::nn::BatchNorm2d>()) {
      auto& [weight, bias] = prepared.convolutions.back();
      const at::Tensor scale =
          norm->weight.detach() / (norm->running_var + norm->options.eps()).sqrt();
      weight = weight * scale.view({-1, 1, 1, 1});
      bias = (bias - norm->running_mean) * scale + norm->bias.detach();
    }
  }
  const Convolution last = prepared.convolutions.back();  // 1 x 1: a product
  prepared.convolutions.pop_back();
  for (auto& [weight, bias] : prepared.convolutions) {
    weight = ready(weight).contiguous(at::MemoryFormat::ChannelsLast);
    bias = ready(bias);
  }
  const int64_t missing = kBranchColumns - last.bias.size(0);  // zeros beside a lone output
  prepared.weight = at::constant_pad_nd(ready(last.weight).flatten(1), {0, 0, 0, missing}).t();
  prepared.bias = at::constant_pad_nd(ready(last.bias), {0, missing});
  return prepared;
}

PreparedHead::PreparedHead(const CenterHead& head, const at::TensorOptions& options) {
  const auto children = head->named_children();
  branches_ = {make_branch(*children["score"], kScoreColumn, options),
               make_branch(*children["offset"], kOffsetColumn, options),
               make_branch(*children["size"], kSizeColumn, options)};
}

at::Tensor PreparedHead::operator()(const at::Tensor& features) const {
  const int64_t batch = features.size(0), count = features.size(1);
  const auto cells = static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(count))));
  const at::Tensor rows = at::empty({batch, count, kHeadColumns}, features.options());
  // Tokens with their channels are an image whose channels lie together.
  const at::Tensor map = features.unflatten(1, {cells, cells}).permute({0, 3, 1, 2});
  std::vector<at::Tensor> kept(branches_.size());
  std::vector<std::function<void()>> bodies;
  for (size_t i = 0; i < branches_.size(); ++i) {
    bodies.push_back([&, i] {
      const Branch& branch = branches_[i];
      at::Tensor x = map;
      for (const auto& [weight, bias] : branch.convolutions) {
        x = x.is_cuda() ? at::cudnn_convolution_relu(x, weight, bias, kOne, kOne, kOne, 1)
                        : at::conv2d(x, weight, bias, kOne, kOne).relu_();
      }
      const at::Tensor flat = x.permute({0, 2, 3, 1}).reshape({batch * count, x.size(1)});
      at::Tensor target =
          rows.view({batch * count, kHeadColumns}).narrow(1, branch.column, kBranchColumns);
      at::addmm_out(target, branch.bias, flat, branch.weight);
      kept[i] = flat;
    });
  }
  vision::run_beside(bodies, features.device());
  return rows;
}

Answer read_answer(const float* rows, const float* window, int64_t cells) {
  const auto sigmoid = [](float x) {
    const double s = 1 / (1 + std::exp(-static_cast<double>(x)));
    return std::isnan(s) ? s : std::clamp(s, kEdge, 1 - kEdge);
  };
  int64_t best = 0;
  double highest = -1;
  for (int64_t i = 0; i < cells * cells; ++i) {
    const double response = sigmoid(rows[i * kHeadColumns + kScoreColumn]) * window[i];
    if (std::isnan(response)) {
      best = i;  // as LibTorch's argmax: what is broken is to be seen
      break;
    }
    if (response > highest) {
      highest = response;
      best = i;
    }
  }
  const float* const row = rows + best * kHeadColumns;
  const auto count = static_cast<double>(cells);
  const int64_t x = best % cells, y = best / cells;
  return {(static_cast<double>(x) + row[kOffsetColumn]) / count,
          (static_cast<double>(y) + row[kOffsetColumn + 1]) / count, sigmoid(row[kSizeColumn]),
          sigmoid(row[kSizeColumn + 1]), sigmoid(row[kScoreColumn])};
}

}  // namespace comba::tracking
