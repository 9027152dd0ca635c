// Sequences whose first tokens never read those behind them.
#include "tests/vision/finite_differences.h"
#include "vision/nn/mixer.h"

#include <ATen/Functions.h>
#include <gtest/gtest.h>

namespace comba::vision {
namespace {

BackboneConfig tiny(const std::string& mixer) {
  BackboneConfig config;
  config.image_size = 32;
  config.patch_size = 8;
  config.width = 32;
  config.depth = 3;
  config.head_dim = 16;
  config.mixer = mixer;
  config.agents = 4;
  config.position = mixer == "softmax" ? "learned" : "none";
  return config;
}

const std::vector<std::string> kMixers = {"comba", "gated_delta", "delta", "retention",
                                          "gla",   "softmax",     "agent", "mamba"};

TEST(Prefix, ItsTokensAreTheSameBitsWhateverFollows) {
  for (const std::string& mixer : kMixers) {
    at::manual_seed(1);
    Backbone backbone(tiny(mixer));
    backbone->eval();
    const torch::Tensor first = at::randn({2, 3, 16, 16}), a = at::randn({2, 3, 32, 32}),
                        b = at::randn({2, 3, 32, 32});
    const auto prefix = [&](const torch::Tensor& rest, int64_t images) {
      return backbone->forward_sequence({first, rest}, images).narrow(1, 0, 4);
    };
    EXPECT_TRUE(prefix(a, 1).equal(prefix(b, 1))) << mixer;
    EXPECT_FALSE(at::allclose(prefix(a, 0), prefix(b, 0))) << mixer;
  }
}

TEST(Prefix, WhatFollowsReadsIt) {
  for (const std::string& mixer : kMixers) {
    at::manual_seed(2);
    Backbone backbone(tiny(mixer));
    backbone->eval();
    const torch::Tensor first = at::randn({1, 3, 16, 16}), rest = at::randn({1, 3, 32, 32});
    const auto last = [&](const torch::Tensor& x) {
      return backbone->forward_sequence({x, rest}, 1).narrow(1, 4, 16);
    };
    EXPECT_FALSE(at::allclose(last(first), last(-first), 1e-3, 1e-4)) << mixer;
  }
}

TEST(Prefix, GradientsAreThoseOfFiniteDifferences) {
  for (const std::string& name : kMixers) {
    at::manual_seed(3);
    const auto mixer = make_mixer(name, tiny(name));
    mixer->to(at::kDouble);
    const at::Tensor weights = at::randn({1, 20, 32}, at::kDouble);
    SCOPED_TRACE(name);
    expect_gradients(
        [&](const std::vector<at::Tensor>& x) {
          return (mixer->forward(x[0], /*prefix=*/4) * weights).sum();
        },
        {at::randn({1, 20, 32}, at::kDouble)}, 60);
  }
}

}  // namespace
}  // namespace comba::vision
