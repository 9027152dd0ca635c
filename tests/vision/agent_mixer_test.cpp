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

double at3(const at::Tensor& x, int64_t i, int64_t j, int64_t k) {
  return x.index({i, j, k}).item<double>();
}

// The 7 x 7 grid at the middle of patch (row, column), edges held.
double between(const at::Tensor& coarse, int64_t row, int64_t column) {
  const auto place = [](int64_t i) {
    return std::max(0.0, (static_cast<double>(i) + 0.5) * 7.0 / kSide - 0.5);
  };
  const double y = place(row), x = place(column);
  const auto y0 = static_cast<int64_t>(y), x0 = static_cast<int64_t>(x);
  const int64_t y1 = std::min<int64_t>(6, y0 + 1), x1 = std::min<int64_t>(6, x0 + 1);
  const double v = y - static_cast<double>(y0), h = x - static_cast<double>(x0);
  const auto value = [&](int64_t i, int64_t j) { return coarse[i][j].item<double>(); };
  return (1 - v) * ((1 - h) * value(y0, x0) + h * value(y0, x1)) +
         v * ((1 - h) * value(y1, x0) + h * value(y1, x1));
}

// x: [T, d] of one image -> [T, d]
at::Tensor by_hand(const AgentMixer& mixer, const at::Tensor& x, int64_t first, int64_t pooled) {
  const at::Tensor rows =
      (x.matmul(mixer.qkv->weight.t()) + mixer.qkv->bias).reshape({-1, 3, kHeads, kDim});
  const int64_t tokens = x.size(0), agents = pooled * pooled, cell = kSide / pooled;
  const auto value = [&](int64_t part, int64_t t, int64_t h, int64_t i) {
    return rows.index({t, part, h, i}).item<double>();
  };
  at::Tensor out = at::zeros({tokens, kHeads, kDim}, at::kDouble);
  for (int64_t h = 0; h < kHeads; ++h) {
    at::Tensor agent = at::zeros({agents, kDim}, at::kDouble);
    for (int64_t p = 0; p < kSide * kSide; ++p) {
      const int64_t a = p / kSide / cell * pooled + p % kSide / cell;
      for (int64_t i = 0; i < kDim; ++i) {
        agent[a][i] += value(0, first + p, h, i) / static_cast<double>(cell * cell);
      }
    }
    const auto score = [&](int64_t part, int64_t t, int64_t a) {
      double sum = 0;
      for (int64_t i = 0; i < kDim; ++i) {
        sum += value(part, t, h, i) * agent[a][i].item<double>();
      }
      return sum / std::sqrt(static_cast<double>(kDim));
    };
    const auto bias = [&](int64_t t, int64_t a, bool agent_reads) {
      if (t < first) {
        return agent_reads ? mixer.ac_bias.index({0, h, a, 0}).item<double>()
                           : mixer.ca_bias.index({0, h, 0, a}).item<double>();
      }
      const int64_t row = (t - first) / kSide, column = (t - first) % kSide;
      return agent_reads ? between(mixer.an_bias[h][a], row, column) +
                               mixer.ah_bias.index({0, h, a, row, 0}).item<double>() +
                               mixer.aw_bias.index({0, h, a, 0, column}).item<double>()
                         : between(mixer.na_bias[h][a], row, column) +
                               mixer.ha_bias.index({0, h, row, 0, a}).item<double>() +
                               mixer.wa_bias.index({0, h, 0, column, a}).item<double>();
    };
    at::Tensor gathered = at::zeros({agents, kDim}, at::kDouble);
    for (int64_t a = 0; a < agents; ++a) {
      double total = 0;
      for (int64_t t = 0; t < tokens; ++t) {
        const double share = std::exp(score(1, t, a) + bias(t, a, true));
        total += share;
        for (int64_t i = 0; i < kDim; ++i) {
          gathered[a][i] += share * value(2, t, h, i);
        }
      }
      gathered[a] /= total;
    }
    for (int64_t t = 0; t < tokens; ++t) {
      double total = 0;
      for (int64_t a = 0; a < agents; ++a) {
        const double share = std::exp(score(0, t, a) + bias(t, a, false));
        total += share;
        out[t][h] += share * gathered[a];
      }
      out[t][h] /= total;
    }
    for (int64_t p = 0; p < kSide * kSide; ++p) {
      for (int64_t i = 0; i < kDim; ++i) {
        const int64_t channel = h * kDim + i;
        double sum = mixer.dwc->bias[channel].item<double>();
        for (int64_t dy = -1; dy <= 1; ++dy) {
          for (int64_t dx = -1; dx <= 1; ++dx) {
            const int64_t row = p / kSide + dy, column = p % kSide + dx;
            if (row >= 0 && row < kSide && column >= 0 && column < kSide) {
              sum += at3(mixer.dwc->weight.squeeze(1), channel, dy + 1, dx + 1) *
                     value(2, first + row * kSide + column, h, i);
            }
          }
        }
        out[first + p][h][i] += sum;
      }
    }
  }
  return out.reshape({tokens, kWidth}).matmul(mixer.proj->weight.t()) + mixer.proj->bias;
}

TEST(AgentMixer, AgreesWithItsDefinitionNumberByNumber) {
  at::manual_seed(41);
  for (const char* pool : {"cls", "mean"}) {
    for (const int64_t pooled : {2, 3}) {
      AgentMixer mixer = large_numbers(tiny(pool, pooled * pooled));
      const at::NoGradGuard no_grad;
      const int64_t first = std::string(pool) == "cls" ? 1 : 0;
      const at::Tensor x = at::randn({2, first + kSide * kSide, kWidth}, at::kDouble);
      const at::Tensor y = mixer.forward(x);
      for (int64_t b = 0; b < 2; ++b) {
        const double error =
            (y[b] - by_hand(mixer, x[b], first, pooled)).abs().max().item<double>();
        EXPECT_LT(error, 1e-10) << pool << " " << pooled;
      }
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

TEST(AgentMixer, RefusesWhatIsNotOneImage) {
  AgentMixer mixer(tiny("cls", 4));
  for (const auto& [tokens, prefix] : {std::pair<int64_t, int64_t>{36, 0}, {40, 0}, {37, 5}}) {
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
