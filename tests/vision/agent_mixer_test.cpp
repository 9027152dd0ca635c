// Agent attention against its definition, number by number in fp64.
#include "vision/nn/agent_mixer.h"

#include "tests/vision/finite_differences.h"

#include <cmath>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

namespace comba::vision {
namespace {

constexpr int64_t kSide = 6, kWidth = 8, kHeads = 2, kDim = 4;

BackboneConfig tiny(const char* pool, int64_t agents) {
  BackboneConfig config;
  config.image_size = 4 * kSide;
  config.patch_size = 4;
  config.width = kWidth;
  config.head_dim = kDim;
  config.pool = pool;
  config.agents = agents;
  config.qkv_bias = true;
  return config;
}

AgentMixer large_numbers(const BackboneConfig& config) {
  AgentMixer mixer(config);
  mixer.to(at::kDouble);
  const at::NoGradGuard no_grad;
  for (const auto& parameter : mixer.parameters()) {
    parameter.add_(at::randn_like(parameter), 0.4);
  }
  return mixer;
}

// A line of values at place `i` of `size`, linearly between them, edges held: which two, and the second's share.
struct Between {
  int64_t low, high;
  double share;
  Between(int64_t i, int64_t size, int64_t values) {
    const double place =
        std::max(0.0, (static_cast<double>(i) + 0.5) * static_cast<double>(values) /
                              static_cast<double>(size) -
                          0.5);
    low = std::min(values - 1, static_cast<int64_t>(place));
    high = std::min(values - 1, low + 1);
    share = place - static_cast<double>(low);
  }
  double of(const at::Tensor& line) const {
    return (1 - share) * line[low].item<double>() + share * line[high].item<double>();
  }
};

// The mixer of one sequence, agent by agent and token by token.
struct ByHand {
  struct Place {
    int64_t image, row, column;  // row -1: the class token
  };
  const AgentMixer& mixer;
  std::vector<int64_t> sides;  // of the images; class tokens stand in front of a single one
  int64_t class_tokens, pooled;
  bool prefixed;  // all images but the last are the prefix
  at::Tensor rows = {};
  std::vector<Place> places = {};

  double value(int64_t part, int64_t t, int64_t h, int64_t i) const {
    return rows.accessor<double, 4>()[t][part][h][i];
  }
  bool hidden(int64_t reader, int64_t read) const {
    const auto last = static_cast<int64_t>(sides.size()) - 1;
    return prefixed && reader != last && read == last;
  }
  // Mean of the queries of its cell of the grid.
  at::Tensor agent(int64_t image, int64_t a, int64_t h) const {
    const int64_t side = sides[static_cast<size_t>(image)];
    const auto inside = [&](int64_t place, int64_t cell) {
      return place >= cell * side / pooled && place < ((cell + 1) * side + pooled - 1) / pooled;
    };
    at::Tensor sum = at::zeros({kDim}, at::kDouble);
    int64_t count = 0;
    for (size_t t = 0; t < places.size(); ++t) {
      const Place& p = places[t];
      if (p.image == image && p.row >= 0 && inside(p.row, a / pooled) &&
          inside(p.column, a % pooled)) {
        sum += rows[static_cast<int64_t>(t)][0][h];
        ++count;
      }
    }
    return sum / count;
  }
  double bias(const Place& p, int64_t image, int64_t a, int64_t h, bool agent_reads) const {
    if (p.image != image) {
      return 0;
    }
    if (p.row < 0) {
      return (agent_reads ? mixer.ac_bias.squeeze(3) : mixer.ca_bias.squeeze(2))
          .index({0, h, a})
          .item<double>();
    }
    const int64_t side = sides[static_cast<size_t>(image)];
    const at::Tensor coarse = (agent_reads ? mixer.an_bias : mixer.na_bias)[h][a];
    const Between row(p.row, side, 7), column(p.column, side, 7);
    const at::Tensor by_row =
        at::tensor({column.of(coarse[row.low]), column.of(coarse[row.high])}, at::kDouble);
    const at::Tensor down = agent_reads ? mixer.ah_bias[0][h][a].squeeze(1)
                                        : mixer.ha_bias[0][h].squeeze(1).select(1, a),
                     across = agent_reads ? mixer.aw_bias[0][h][a].squeeze(0)
                                          : mixer.wa_bias[0][h].squeeze(0).select(1, a);
    return (1 - row.share) * by_row[0].item<double>() + row.share * by_row[1].item<double>() +
           Between(p.row, side, kSide).of(down) + Between(p.column, side, kSide).of(across);
  }
  // What the head gives every token, without the convolution: [T, D].
  at::Tensor head(int64_t h) const {
    const auto tokens = static_cast<int64_t>(places.size()), agents = pooled * pooled;
    at::Tensor sums = at::zeros({tokens, kDim}, at::kDouble),
               totals = at::zeros({tokens, 1}, at::kDouble);
    for (int64_t image = 0; image < static_cast<int64_t>(sides.size()); ++image) {
      for (int64_t a = 0; a < agents; ++a) {
        const at::Tensor own = agent(image, a, h);
        const auto share = [&](int64_t t, bool agent_reads) {
          const Place& p = places[static_cast<size_t>(t)];
          if (agent_reads ? hidden(image, p.image) : hidden(p.image, image)) {
            return 0.0;
          }
          double score = 0;
          for (int64_t i = 0; i < kDim; ++i) {
            score += value(agent_reads ? 1 : 0, t, h, i) * own[i].item<double>();
          }
          return std::exp(score / std::sqrt(static_cast<double>(kDim)) +
                          bias(p, image, a, h, agent_reads));
        };
        at::Tensor gathered = at::zeros({kDim}, at::kDouble);
        double total = 0;
        for (int64_t t = 0; t < tokens; ++t) {
          const double weight = share(t, true);
          gathered += weight * rows[t][2][h];
          total += weight;
        }
        for (int64_t t = 0; t < tokens; ++t) {
          const double weight = share(t, false);
          sums[t] += weight * gathered / total;
          totals[t] += weight;
        }
      }
    }
    return sums / totals;
  }
  double convolved(size_t t, int64_t h, int64_t i) const {
    const int64_t channel = h * kDim + i;
    double sum = mixer.dwc->bias[channel].item<double>();
    for (size_t other = 0; other < places.size(); ++other) {
      const int64_t dy = places[other].row - places[t].row,
                    dx = places[other].column - places[t].column;
      if (places[other].image == places[t].image && places[other].row >= 0 && std::abs(dy) <= 1 &&
          std::abs(dx) <= 1) {
        sum += mixer.dwc->weight.index({channel, 0, dy + 1, dx + 1}).item<double>() *
               value(2, static_cast<int64_t>(other), h, i);
      }
    }
    return sum;
  }
  // x: [T, d] -> [T, d]
  at::Tensor operator()(const at::Tensor& x) {
    rows = (x.matmul(mixer.qkv->weight.t()) + mixer.qkv->bias).reshape({-1, 3, kHeads, kDim});
    places.assign(static_cast<size_t>(class_tokens), {0, -1, -1});
    for (size_t image = 0; image < sides.size(); ++image) {
      for (int64_t p = 0; p < sides[image] * sides[image]; ++p) {
        places.push_back({static_cast<int64_t>(image), p / sides[image], p % sides[image]});
      }
    }
    at::Tensor out = at::zeros({x.size(0), kHeads, kDim}, at::kDouble);
    for (int64_t h = 0; h < kHeads; ++h) {
      out.select(1, h).copy_(head(h));
      for (size_t t = static_cast<size_t>(class_tokens); t < places.size(); ++t) {
        for (int64_t i = 0; i < kDim; ++i) {
          out[static_cast<int64_t>(t)][h][i] += convolved(t, h, i);
        }
      }
    }
    return out.reshape({-1, kWidth}).matmul(mixer.proj->weight.t()) + mixer.proj->bias;
  }
};

TEST(AgentMixer, AgreesWithItsDefinitionNumberByNumber) {
  at::manual_seed(41);
  for (const char* pool : {"cls", "mean"}) {
    for (const int64_t pooled : {2, 3, 4}) {
      AgentMixer mixer = large_numbers(tiny(pool, pooled * pooled));
      const at::NoGradGuard no_grad;
      const int64_t first = std::string(pool) == "cls" ? 1 : 0;
      const at::Tensor x = at::randn({2, first + kSide * kSide, kWidth}, at::kDouble);
      const at::Tensor y = mixer.forward(x);
      for (int64_t b = 0; b < 2; ++b) {
        ByHand by_hand{mixer, {kSide}, first, pooled, false};
        EXPECT_LT((y[b] - by_hand(x[b])).abs().max().item<double>(), 1e-10) << pool << pooled;
      }
    }
  }
}

TEST(AgentMixer, OfSeveralImagesAgreesWithItsDefinitionNumberByNumber) {
  at::manual_seed(43);
  for (const auto& [templates, pooled] : {std::pair<int64_t, int64_t>{1, 3}, {2, 2}}) {
    AgentMixer mixer = large_numbers(tiny(templates == 1 ? "cls" : "mean", pooled * pooled));
    const at::NoGradGuard no_grad;
    std::vector<int64_t> sides(static_cast<size_t>(templates), 3);
    sides.push_back(kSide);
    const int64_t before = 9 * templates;
    const at::Tensor x = at::randn({1, before + kSide * kSide, kWidth}, at::kDouble);
    for (const bool prefixed : {false, true}) {
      ByHand by_hand{mixer, sides, 0, pooled, prefixed};
      const at::Tensor y = mixer.forward(x, prefixed ? before : 0);
      EXPECT_LT((y[0] - by_hand(x[0])).abs().max().item<double>(), 1e-10)
          << templates << " templates, prefix " << prefixed;
    }
  }
}

TEST(AgentMixer, GradientsAreThoseOfFiniteDifferences) {
  at::manual_seed(42);
  AgentMixer mixer = large_numbers(tiny("cls", 4));
  const at::Tensor x = at::randn({1, 1 + kSide * kSide, kWidth}, at::kDouble),
                   weights = at::randn_like(x);
  expect_gradients(
      [&](const std::vector<at::Tensor>& in) { return (mixer.forward(in[0]) * weights).sum(); },
      {x}, 30);
  expect_parameter_gradients(mixer, [&] { return (mixer.forward(x) * weights).sum(); });
}

TEST(AgentMixer, RefusesWhatAreNoSquareImages) {
  AgentMixer mixer(tiny("cls", 4));
  for (const auto& [tokens, prefix] :
       {std::pair<int64_t, int64_t>{35, 0}, {39, 0}, {37, 5}, {45, 4}, {4, 0}}) {
    try {
      mixer.forward(at::zeros({1, tokens, kWidth}), prefix);
      FAIL() << tokens;
    } catch (const c10::Error& error) {
      EXPECT_NE(std::string(error.what()).find("37 tokens"), std::string::npos) << error.what();
    }
  }
}

// Of a bias that is linear in its place, the resized one is linear too but for its edges.
TEST(AgentMixer, BiasesOfAnotherGridAreResizedBilinearly) {
  const at::Tensor rows = at::arange(6, at::kDouble).view({1, 1, 1, 6, 1}).expand({1, 2, 4, 6, 1});
  const at::Tensor twice = resized_grid_bias("blocks.0.attn.ah_bias", rows, {1, 2, 4, 12, 1});
  ASSERT_EQ(twice.sizes(), (at::IntArrayRef{1, 2, 4, 12, 1}));
  const at::Tensor last = rows.permute({0, 1, 3, 4, 2});
  const at::Tensor turned = resized_grid_bias("blocks.0.attn.ha_bias", last, {1, 2, 12, 1, 4});
  for (int64_t i = 0; i < 12; ++i) {
    const double expected = std::min(5.0, std::max(0.0, (static_cast<double>(i) + 0.5) / 2 - 0.5));
    EXPECT_NEAR(twice.index({0, 1, 3, i, 0}).item<double>(), expected, 1e-12);
    EXPECT_NEAR(turned.index({0, 1, i, 0, 3}).item<double>(), expected, 1e-12);
  }
  EXPECT_TRUE(is_grid_bias("wa_bias"));
  EXPECT_FALSE(is_grid_bias("blocks.0.attn.an_bias"));
}

TEST(AgentMixer, HasTheNamesOfAgentDeit) {
  const AgentMixer mixer(tiny("cls", 4));
  const auto parameters = mixer.named_parameters();
  for (const char* name :
       {"qkv.weight", "qkv.bias", "proj.weight", "proj.bias", "dwc.weight", "dwc.bias", "an_bias",
        "na_bias", "ah_bias", "aw_bias", "ha_bias", "wa_bias", "ac_bias", "ca_bias"}) {
    EXPECT_TRUE(parameters.contains(name)) << name;
  }
  EXPECT_EQ(parameters.size(), 14U);
}

}  // namespace
}  // namespace comba::vision
