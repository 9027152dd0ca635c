#include "vision/engine/gradient_reducer.h"

#include "rank_net.h"
#include "rank_threads.h"

#include <gtest/gtest.h>

namespace comba::vision {
namespace {

// Buckets that hold one parameter each, several, all.
class GradientReducerTest : public testing::TestWithParam<int64_t> {};

TEST_P(GradientReducerTest, GradientsAreThoseOfTheWholeBatchStepAfterStep) {
  RankNet whole;
  std::vector<RankNet> nets(kRanks);
  for (int64_t step = 0; step < 3; ++step) {
    for (RankNet* net : {&whole, &nets[0], &nets[1]}) {
      net->zero_grad();
    }
    whole.loss(batch(step)).backward();
    const auto errors = on_ranks(kRanks, [&](Ranks& ranks) {
      RankNet& net = nets[static_cast<size_t>(ranks.rank())];
      GradientReducer reducer(net, std::shared_ptr<Ranks>(&ranks, [](Ranks*) {}), GetParam());
      net.loss(part(step, ranks)).backward();
      reducer.finish();
      expect_gradients(net, whole);
    });
    EXPECT_EQ(errors, std::vector<std::string>(kRanks));
  }
}

TEST_P(GradientReducerTest, OneReducerServesManyStepsAndAddsUpWhereAsked) {
  RankNet sums[2];  // of the first two batches, and of the third
  for (int64_t number : {0, 1}) {
    sums[0].loss(batch(number)).backward();
  }
  sums[1].loss(batch(2)).backward();
  const auto errors = on_ranks(kRanks, [&](Ranks& ranks) {
    RankNet net;
    GradientReducer reducer(net, std::shared_ptr<Ranks>(&ranks, [](Ranks*) {}), GetParam());
    reducer.set_active(false);
    net.loss(part(0, ranks)).backward();
    reducer.set_active(true);
    net.loss(part(1, ranks)).backward();
    reducer.finish();
    expect_gradients(net, sums[0]);
    net.zero_grad(/*set_to_none=*/false);  // they stay where the reducer put them
    net.loss(part(2, ranks)).backward();
    reducer.finish();
    expect_gradients(net, sums[1]);
  });
  EXPECT_EQ(errors, std::vector<std::string>(kRanks));
}

INSTANTIATE_TEST_SUITE_P(Buckets, GradientReducerTest, testing::Values(4, 300, 1 << 20));

}  // namespace
}  // namespace comba::vision
