#include "vision/engine/gradient_reducer.h"

#include "rank_threads.h"
#include "vision/base/error.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

namespace comba::vision {
namespace {

constexpr int64_t kRanks = 2, kBatch = 8;

struct Net : torch::nn::Module {
  Net() {
    first = register_module("first", torch::nn::Linear(6, 16));
    unused = register_module("unused", torch::nn::Linear(3, 3));
    second = register_module("second", torch::nn::Linear(16, 1));
    const at::NoGradGuard no_grad;
    int64_t seed = 1;
    for (at::Tensor parameter : parameters()) {
      parameter.copy_(at::arange(parameter.numel()).add(seed++).sin().mul(0.3).view_as(parameter));
    }
  }
  at::Tensor loss(const at::Tensor& x) {
    return second->forward(first->forward(x).tanh()).square().mean();
  }
  torch::nn::Linear first{nullptr}, unused{nullptr}, second{nullptr};
};

at::Tensor batch(int64_t number) {
  return at::arange(kBatch * 6).add(100 * number).mul(0.37).sin().view({kBatch, 6});
}

at::Tensor part(const at::Tensor& batch, const Ranks& ranks) {
  const int64_t share = kBatch / ranks.size();
  return batch.narrow(0, ranks.rank() * share, share);
}

void expect_gradients(const Net& net, const Net& whole) {
  const auto wanted = whole.named_parameters();
  for (const auto& item : net.named_parameters()) {
    const at::Tensor& expected = wanted[item.key()].grad();
    COMBA_CHECK(item.value().grad().defined() == expected.defined(), "{}: one has a gradient",
                item.key());
    COMBA_CHECK(!expected.defined() || at::allclose(item.value().grad(), expected, 1e-6, 1e-7),
                "{}: the gradient is not that of the whole batch", item.key());
  }
}

// The optimizer's kernels read gradients in vectors only where they may.
void expect_aligned(const Net& net) {
  for (const auto& item : net.named_parameters()) {
    const at::Tensor& gradient = item.value().grad();
    COMBA_CHECK(!gradient.defined() ||
                    reinterpret_cast<uintptr_t>(gradient.const_data_ptr()) % 16 == 0,
                "{}: the gradient does not lie at a multiple of 16 bytes", item.key());
  }
}

// Buckets that hold one parameter each, several, all.
class GradientReducerTest : public testing::TestWithParam<int64_t> {};

TEST_P(GradientReducerTest, GradientsAreThoseOfTheWholeBatchStepAfterStep) {
  Net whole;
  std::vector<Net> nets(kRanks);
  for (int64_t step = 0; step < 3; ++step) {
    for (Net* net : {&whole, &nets[0], &nets[1]}) {
      net->zero_grad();
    }
    whole.loss(batch(step)).backward();
    const auto errors = on_ranks(kRanks, [&](Ranks& ranks) {
      Net& net = nets[static_cast<size_t>(ranks.rank())];
      GradientReducer reducer(net, std::shared_ptr<Ranks>(&ranks, [](Ranks*) {}), GetParam());
      net.loss(part(batch(step), ranks)).backward();
      reducer.finish();
      expect_gradients(net, whole);
      expect_aligned(net);
    });
    EXPECT_EQ(errors, std::vector<std::string>(kRanks));
  }
}

TEST_P(GradientReducerTest, OneReducerServesManyStepsAndAddsUpWhereAsked) {
  Net sums[2];  // of the first two batches, and of the third
  for (int64_t number : {0, 1}) {
    sums[0].loss(batch(number)).backward();
  }
  sums[1].loss(batch(2)).backward();
  const auto errors = on_ranks(kRanks, [&](Ranks& ranks) {
    Net net;
    GradientReducer reducer(net, std::shared_ptr<Ranks>(&ranks, [](Ranks*) {}), GetParam());
    reducer.set_active(false);
    net.loss(part(batch(0), ranks)).backward();
    reducer.set_active(true);
    net.loss(part(batch(1), ranks)).backward();
    reducer.finish();
    expect_gradients(net, sums[0]);
    net.zero_grad(/*set_to_none=*/false);  // they stay where the reducer put them
    net.loss(part(batch(2), ranks)).backward();
    reducer.finish();
    expect_gradients(net, sums[1]);
  });
  EXPECT_EQ(errors, std::vector<std::string>(kRanks));
}

INSTANTIATE_TEST_SUITE_P(Buckets, GradientReducerTest, testing::Values(4, 300, 1 << 20));

}  // namespace
}  // namespace comba::vision
