// Ranks on two GPUs; skipped where there are fewer.
#include "rank_threads.h"
#include "vision/base/error.h"
#include "vision/engine/gradient_reducer.h"
#include "vision/engine/rank_checks.h"

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGraph.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAGuard.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

namespace comba::vision {
namespace {

constexpr int64_t kRanks = 2, kBatch = 8;

struct Net : torch::nn::Module {
  Net() {
    first = register_module("first", torch::nn::Linear(6, 64));
    second = register_module("second", torch::nn::Linear(64, 1));
    const at::NoGradGuard no_grad;
    int64_t seed = 1;
    for (at::Tensor parameter : parameters()) {
      parameter.copy_(at::arange(parameter.numel()).add(seed++).sin().mul(0.3).view_as(parameter));
    }
  }
  at::Tensor loss(const at::Tensor& x) {
    return second->forward(first->forward(x).tanh()).square().mean();
  }
  torch::nn::Linear first{nullptr}, second{nullptr};
};

at::Tensor batch(int64_t number) {
  return at::arange(kBatch * 6).add(100 * number).mul(0.37).sin().view({kBatch, 6});
}

at::Tensor part(int64_t number, const Ranks& ranks) {
  const int64_t share = kBatch / ranks.size();
  return batch(number).narrow(0, ranks.rank() * share, share).to(ranks.device());
}

void expect_gradients(const Net& net, int64_t number) {
  Net whole;
  whole.loss(batch(number)).backward();
  const auto wanted = whole.named_parameters();
  for (const auto& item : net.named_parameters()) {
    COMBA_CHECK(at::allclose(item.value().grad().cpu(), wanted[item.key()].grad(), 1e-5, 1e-6),
                "{}: the gradient is not that of the whole batch {}", item.key(), number);
  }
}

class RanksOnGpus : public testing::Test {
 protected:
  void SetUp() override {
    if (!at::hasCUDA() || at::cuda::device_count() < kRanks) {
      GTEST_SKIP() << "needs " << kRanks << " GPUs";
    }
  }
  static void expect(const std::function<void(Ranks&)>& body) {
    EXPECT_EQ(on_ranks(kRanks, body, c10::kCUDA), std::vector<std::string>(kRanks));
  }
};

TEST_F(RanksOnGpus, SumMeanAndBroadcastGiveAllTheSame) {
  expect([](Ranks& ranks) {
    const auto own = static_cast<double>(ranks.rank() + 1);
    const auto options = at::TensorOptions(ranks.device()).dtype(at::kFloat);
    const at::Tensor sum = at::full({5}, own, options), mean = at::full({2, 2}, own, options),
                     first = at::full({3}, own, options), host = at::full({3}, own);
    ranks.sum(sum);
    ranks.start_mean(mean)();
    ranks.broadcast(first);
    ranks.broadcast(host);
    COMBA_CHECK(sum.eq(3).all().item<bool>(), "the sum is wrong");
    COMBA_CHECK(mean.eq(1.5).all().item<bool>(), "the mean is wrong");
    COMBA_CHECK(first.eq(1).all().item<bool>(), "the broadcast is wrong");
    COMBA_CHECK(host.eq(1).all().item<bool>(), "the broadcast from the host is wrong");
    COMBA_CHECK(ranks.sum(std::vector<double>{own}) == std::vector<double>{3.0}, "numbers");
    Net net;
    net.to(ranks.device());
    check_equal_weights(ranks, net, "at first");
  });
}

TEST_F(RanksOnGpus, GradientsAreThoseOfTheWholeBatch) {
  expect([](Ranks& ranks) {
    Net net;
    net.to(ranks.device());
    GradientReducer reducer(net, std::shared_ptr<Ranks>(&ranks, [](Ranks*) {}), 300);
    for (int64_t number = 0; number < 3; ++number) {
      net.zero_grad();
      net.loss(part(number, ranks)).backward();
      reducer.finish();
      expect_gradients(net, number);
    }
  });
}

TEST_F(RanksOnGpus, AStepWithItsMeansReplaysAsACudaGraph) {
  expect([](Ranks& ranks) {
    const c10::cuda::CUDAStreamGuard stream(c10::cuda::getStreamFromPool());
    Net net;
    net.to(ranks.device());
    GradientReducer reducer(net, std::shared_ptr<Ranks>(&ranks, [](Ranks*) {}), 300);
    const at::Tensor input = part(0, ranks).clone();
    const auto step = [&] {
      net.zero_grad();
      net.loss(input).backward();
      reducer.finish();
    };
    for (int warm_up = 0; warm_up < 3; ++warm_up) {
      step();
    }
    at::cuda::CUDAGraph graph;
    graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    step();
    graph.capture_end();
    for (int64_t number = 0; number < 3; ++number) {
      input.copy_(part(number, ranks));
      graph.replay();
      expect_gradients(net, number);
    }
    c10::cuda::getCurrentCUDAStream().synchronize();
  });
}

}  // namespace
}  // namespace comba::vision
