#include "vision/engine/distributed.h"

#include "rank_threads.h"
#include "vision/base/error.h"
#include "vision/engine/rank_checks.h"
#include "vision/engine/rank_store.h"
#include "vision/engine/rank_watch.h"

#include <cstdlib>
#include <future>
#include <map>

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

namespace comba::vision {
namespace {

const std::vector<std::string> kNoErrors = {"", "", ""};

TEST(Ranks, SumMeanAndBroadcastGiveAllTheSame) {
  const auto errors = on_ranks(3, [](Ranks& ranks) {
    const auto own = static_cast<double>(ranks.rank() + 1);
    const at::Tensor sum = at::full({5}, own), mean = at::full({2, 2}, own);
    ranks.sum(sum);
    ranks.start_mean(mean)();
    const at::Tensor first = at::full({3}, own);
    ranks.broadcast(first);
    COMBA_CHECK(sum.eq(6).all().item<bool>(), "the sum is wrong");
    COMBA_CHECK(mean.eq(2).all().item<bool>(), "the mean is wrong");
    COMBA_CHECK(first.eq(1).all().item<bool>(), "the broadcast is wrong");
    COMBA_CHECK(ranks.sum(std::vector<double>{own, 0.5}) == (std::vector<double>{6.0, 1.5}),
                "the sum of numbers is wrong");
  });
  EXPECT_EQ(errors, kNoErrors);
}

TEST(Ranks, TextsComeInTheOrderOfTheRanks) {
  const auto errors = on_ranks(3, [](Ranks& ranks) {
    const auto texts = ranks.gather(std::string(static_cast<size_t>(ranks.rank()), 'x'));
    COMBA_CHECK(texts == (std::vector<std::string>{"", "x", "xx"}), "texts are wrong");
    COMBA_CHECK(ranks.broadcast("of " + std::to_string(ranks.rank())) == "of 0", "not rank 0's");
  });
  EXPECT_EQ(errors, kNoErrors);
}

TEST(Ranks, TensorsMayBeLargerThanWhatTheStoreTakes) {
  const auto errors = on_ranks(3, [](Ranks& ranks) {
    const at::Tensor large = at::arange(int64_t{3} << 20, at::kFloat);  // 12 MiB
    const at::Tensor tripled = large * 3;
    ranks.sum(large);
    COMBA_CHECK(large.equal(tripled), "the sum is wrong");
  });
  EXPECT_EQ(errors, kNoErrors);
}

TEST(Ranks, WeightsThatDifferAreNamedWithTheirRanks) {
  const auto errors = on_ranks(3, [](Ranks& ranks) {
    torch::nn::Linear layer(4, 2);
    {
      const at::NoGradGuard no_grad;
      layer->weight.fill_(1.0);
      layer->bias.fill_(2.0);
      check_equal_weights(ranks, *layer, "at first");  // which they are
      if (ranks.rank() == 2) {
        layer->bias[1] = std::nextafter(2.0F, 3.0F);
      }
    }
    check_equal_weights(ranks, *layer, "after step 7");
  });
  for (const std::string& error : errors) {
    EXPECT_NE(error.find("after step 7: bias is the first that differs, on rank 2"),
              std::string::npos)
        << error;
  }
}

TEST(Ranks, WhatRanksDoNotAgreeOnIsNamed) {
  const auto errors = on_ranks(3, [](Ranks& ranks) {
    check_agreement(ranks, "the data", ranks.rank() == 1 ? "data-b" : "data-a");
  });
  for (const std::string& error : errors) {
    EXPECT_NE(error.find("the data differs: rank 0 has data-a, rank 1 has data-b"),
              std::string::npos)
        << error;
  }
}

class RankWatchTest : public testing::Test {
 protected:
  static constexpr RankWatchOptions kQuick{std::chrono::milliseconds(20),
                                           std::chrono::milliseconds(400)};
  std::future<std::string> watch(const RankPlace& place) {
    auto promise = std::make_shared<std::promise<std::string>>();
    watch_ = std::make_unique<RankWatch>(
        connect_store(place, false), place,
        [promise](const std::string& what) { promise->set_value(what); }, kQuick);
    return promise->get_future();
  }
  static std::string wait(std::future<std::string>& future) {
    return future.wait_for(std::chrono::seconds(30)) == std::future_status::ready
               ? future.get()
               : "nothing was noticed";
  }
  std::unique_ptr<RankWatch> watch_;
};

TEST_F(RankWatchTest, ARankThatFallsSilentIsNamed) {
  const RankStore store;
  const RankPlace place = place_of(0, 3, store.port());
  const StorePointer others = connect_store(place_of(1, 3, store.port()), false);
  std::future<std::string> lost = watch(place);
  others->set(sign_of_life(1), std::string("left"));  // has gone as it should
  for (int beat = 0; beat < 20; ++beat) {
    others->set(sign_of_life(2), std::to_string(beat));
    EXPECT_NE(lost.wait_for(std::chrono::milliseconds(30)), std::future_status::ready);
  }
  const std::string what = wait(lost);
  EXPECT_NE(what.find("rank 2 has shown no sign of life"), std::string::npos) << what;
}

TEST_F(RankWatchTest, AFailureIsHeardByAll) {
  RankStore store;
  std::future<std::string> lost = watch(place_of(0, 2, store.port()));
  store.fail("rank 1 was killed");
  store.fail("what came of it");
  EXPECT_EQ(wait(lost), "rank 1 was killed");
}

TEST_F(RankWatchTest, TheEndOfTheStoreIsNoticed) {
  auto store = std::make_unique<RankStore>();
  std::future<std::string> lost = watch(place_of(1, 2, store->port()));
  store.reset();
  const std::string what = wait(lost);
  EXPECT_NE(what.find("the launcher has died"), std::string::npos) << what;
}

// Variables of the environment, as they were before at the end.
class Environment {
 public:
  explicit Environment(const std::map<std::string, std::string>& variables) {
    for (const char* name : kNames) {
      unsetenv(name);
    }
    for (const auto& [name, value] : variables) {
      setenv(name.c_str(), value.c_str(), 1);
    }
  }
  ~Environment() {
    for (const char* name : kNames) {
      unsetenv(name);
    }
  }

 private:
  static constexpr const char* kNames[] = {"RANK",        "WORLD_SIZE",  "LOCAL_RANK",
                                           "MASTER_ADDR", "MASTER_PORT", "LOCAL_WORLD_SIZE"};
};

TEST(RankPlace, IsReadAsTorchrunWritesIt) {
  {
    const Environment environment({});
    EXPECT_FALSE(rank_place().has_value());
  }
  {
    const Environment environment({{"WORLD_SIZE", "1"}, {"RANK", "0"}});
    EXPECT_FALSE(rank_place().has_value());
  }
  const Environment environment({{"WORLD_SIZE", "16"},
                                 {"RANK", "9"},
                                 {"LOCAL_RANK", "1"},
                                 {"LOCAL_WORLD_SIZE", "8"},
                                 {"MASTER_ADDR", "node0"},
                                 {"MASTER_PORT", "29500"}});
  const auto place = rank_place();
  ASSERT_TRUE(place.has_value());
  EXPECT_EQ(place->rank, 9);
  EXPECT_EQ(place->size, 16);
  EXPECT_EQ(place->local_rank, 1);
  EXPECT_EQ(place->host, "node0");
  EXPECT_EQ(place->port, 29500);
}

TEST(RankPlace, NamesTheVariableThatIsMissingOrWrong) {
  const auto message = [](const std::map<std::string, std::string>& variables) -> std::string {
    const Environment environment(variables);
    try {
      rank_place();
    } catch (const UsageError& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_NE(message({{"WORLD_SIZE", "2"}}).find("RANK is not"), std::string::npos);
  EXPECT_NE(message({{"WORLD_SIZE", "two"}}).find("WORLD_SIZE = \"two\""), std::string::npos);
  EXPECT_NE(message({{"WORLD_SIZE", "2"},
                     {"RANK", "2"},
                     {"LOCAL_RANK", "0"},
                     {"MASTER_ADDR", "a"},
                     {"MASTER_PORT", "1"}})
                .find("RANK = 2"),
            std::string::npos);
}

}  // namespace
}  // namespace comba::vision
