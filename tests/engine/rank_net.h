// A network and batches whose gradients several ranks are to agree on: the same numbers wherever they are made.
#pragma once

#include "vision/base/error.h"
#include "vision/engine/distributed.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <torch/nn/modules/linear.h>

namespace comba::vision {

constexpr int64_t kRanks = 2, kBatch = 8;

struct RankNet : torch::nn::Module {
  RankNet() {
    first = register_module("first", torch::nn::Linear(6, 16));
    unused = register_module("unused", torch::nn::Linear(3, 3));  // has no gradient
    second = register_module("second", torch::nn::Linear(16, 1));
    const at::NoGradGuard no_grad;
    int64_t seed = 1;
    for (const at::Tensor& parameter : parameters()) {
      parameter.copy_(at::arange(parameter.numel()).add(seed++).sin().mul(0.3).view_as(parameter));
    }
  }
  at::Tensor loss(const at::Tensor& x) {
    return second->forward(first->forward(x).tanh()).square().mean();
  }
  torch::nn::Linear first{nullptr}, unused{nullptr}, second{nullptr};
};

inline at::Tensor batch(int64_t number) {
  return at::arange(kBatch * 6).add(100 * number).mul(0.37).sin().view({kBatch, 6});
}

// The rank's share, on its device.
inline at::Tensor part(int64_t number, const Ranks& ranks) {
  const int64_t share = kBatch / ranks.size();
  return batch(number).narrow(0, ranks.rank() * share, share).to(ranks.device());
}

// Throws unless the gradients are those of `whole`, and lie where the optimizer's kernels may read them in vectors.
inline void expect_gradients(const RankNet& net, const RankNet& whole, double relative = 1e-6) {
  const auto wanted = whole.named_parameters();
  for (const auto& item : net.named_parameters()) {
    const at::Tensor &gradient = item.value().grad(), &expected = wanted[item.key()].grad();
    COMBA_CHECK(gradient.defined() == expected.defined(), "{}: one has a gradient", item.key());
    if (!gradient.defined()) {
      continue;
    }
    COMBA_CHECK(at::allclose(gradient.cpu(), expected, relative, 0.1 * relative),
                "{}: the gradient is not that of the whole batch", item.key());
    COMBA_CHECK(reinterpret_cast<uintptr_t>(gradient.const_data_ptr()) % 16 == 0,
                "{}: the gradient does not lie at a multiple of 16 bytes", item.key());
  }
}

}  // namespace comba::vision
