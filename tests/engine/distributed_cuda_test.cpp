// Ranks on two GPUs; skipped where there are fewer.
#include "rank_net.h"
#include "rank_threads.h"
#include "vision/base/error.h"
#include "vision/engine/gradient_reducer.h"
#include "vision/engine/rank_checks.h"

#include <ATen/Context.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGraph.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAGuard.h>
#include <gtest/gtest.h>

namespace comba::vision {
namespace {

// Of the batch of that number.
void expect_gradients_of(const RankNet& net, int64_t number) {
  RankNet whole;
  whole.loss(batch(number)).backward();
  expect_gradients(net, whole, 1e-5);
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
    RankNet net;
    net.to(ranks.device());
    check_equal_weights(ranks, net, "at first");
  });
}

TEST_F(RanksOnGpus, GradientsAreThoseOfTheWholeBatch) {
  expect([](Ranks& ranks) {
    RankNet net;
    net.to(ranks.device());
    GradientReducer reducer(net, std::shared_ptr<Ranks>(&ranks, [](Ranks*) {}), 300);
    for (int64_t number = 0; number < 3; ++number) {
      net.zero_grad();
      net.loss(part(number, ranks)).backward();
      reducer.finish();
      expect_gradients_of(net, number);
    }
  });
}

TEST_F(RanksOnGpus, AStepWithItsMeansReplaysAsACudaGraph) {
  expect([](Ranks& ranks) {
    const c10::cuda::CUDAStreamGuard stream(c10::cuda::getStreamFromPool());
    RankNet net;
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
      expect_gradients_of(net, number);
    }
    c10::cuda::getCurrentCUDAStream().synchronize();
  });
}

}  // namespace
}  // namespace comba::vision
