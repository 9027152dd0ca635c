// Vision Mamba's mixer against its definition, number by number in fp64.
#include "vision/nn/mamba_mixer.h"

#include "tests/vision/finite_differences.h"
#include "vision/engine/import_weights.h"

#include <cmath>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

namespace comba::vision {
namespace {

constexpr int64_t kWidth = 6, kInner = 12, kStates = 16, kRank = 1;

BackboneConfig tiny() {
  BackboneConfig config;
  config.image_size = 8;
  config.patch_size = 4;
  config.width = kWidth;
  config.head_dim = 2;
  config.depth = 1;
  config.mixer = "mamba";
  config.mlp_ratio = 0;
  config.pool = "middle_cls";
  config.position = "learned";
  return config;
}

MambaMixer large_numbers() {
  MambaMixer mixer(tiny());
  mixer.to(at::kDouble);
  const at::NoGradGuard no_grad;
  for (const auto& parameter : mixer.parameters()) {
    parameter.add_(at::randn_like(parameter), 0.4);
  }
  return mixer;
}

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

// x: [T][d], tokens in the order in which `direction` reads them -> [T, inner]
at::Tensor scan_by_hand(const MambaMixer& mixer, const MambaMixer::Direction& direction,
                        const at::Tensor& x) {
  const int64_t tokens = x.size(0);
  const at::Tensor rows = x.matmul(mixer.in_proj->weight.t());
  at::Tensor out = at::zeros({tokens, kInner}, at::kDouble);
  at::Tensor u = at::zeros({tokens, kInner}, at::kDouble);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t c = 0; c < kInner; ++c) {
      double sum = direction.conv1d->bias[c].item<double>();
      for (int64_t back = 0; back < 4 && back <= t; ++back) {
        sum += direction.conv1d->weight.index({c, 0, 3 - back}).item<double>() *
               rows[t - back][c].item<double>();
      }
      u[t][c] = sum * sigmoid(sum);
    }
  }
  const at::Tensor projected = u.matmul(direction.x_proj->weight.t());
  for (int64_t c = 0; c < kInner; ++c) {
    std::vector<double> state(kStates, 0.0);
    for (int64_t t = 0; t < tokens; ++t) {
      double raw = direction.dt_proj->bias[c].item<double>();
      for (int64_t r = 0; r < kRank; ++r) {
        raw += direction.dt_proj->weight[c][r].item<double>() * projected[t][r].item<double>();
      }
      const double dt = std::log1p(std::exp(raw)), value = u[t][c].item<double>();
      double y = direction.D[c].item<double>() * value;
      for (int64_t n = 0; n < kStates; ++n) {
        const double rate = -std::exp(direction.A_log[c][n].item<double>());
        state[n] =
            std::exp(dt * rate) * state[n] + dt * value * projected[t][kRank + n].item<double>();
        y += state[n] * projected[t][kRank + kStates + n].item<double>();
      }
      const double z = rows[t][kInner + c].item<double>();
      out[t][c] = y * z * sigmoid(z);
    }
  }
  return out;
}

at::Tensor by_hand(const MambaMixer& mixer, const at::Tensor& x, int64_t prefix) {
  std::vector<int64_t>
      order;  // the second direction's: the prefix from its end, then the rest from its end
  for (int64_t t = prefix; t-- > 0;) {
    order.push_back(t);
  }
  for (int64_t t = x.size(0); t-- > prefix;) {
    order.push_back(t);
  }
  at::Tensor sum = scan_by_hand(mixer, mixer.directions[0], x);
  const at::Tensor back =
      scan_by_hand(mixer, mixer.directions[1], x.index_select(0, at::tensor(order)));
  for (size_t s = 0; s < order.size(); ++s) {
    sum[order[s]] += back[static_cast<int64_t>(s)];
  }
  return (sum / 2).matmul(mixer.out_proj->weight.t());
}

TEST(MambaMixer, AgreesWithItsDefinitionNumberByNumber) {
  at::manual_seed(51);
  MambaMixer mixer = large_numbers();
  const at::NoGradGuard no_grad;
  const at::Tensor x = at::randn({2, 9, kWidth}, at::kDouble);
  for (const int64_t prefix : {0, 4}) {
    const at::Tensor y = mixer.forward(x, prefix);
    for (int64_t b = 0; b < 2; ++b) {
      EXPECT_LT((y[b] - by_hand(mixer, x[b], prefix)).abs().max().item<double>(), 1e-10)
          << "prefix " << prefix;
    }
  }
}

TEST(MambaMixer, EveryParameterHasTheGradientOfFiniteDifferences) {
  at::manual_seed(52);
  MambaMixer mixer = large_numbers();
  const at::Tensor x = at::randn({2, 5, kWidth}, at::kDouble), weights = at::randn_like(x);
  expect_parameter_gradients(mixer, [&] { return (mixer.forward(x) * weights).sum(); });
}

TEST(MambaMixer, StatesStartAsVisionMambas) {
  BackboneConfig config = tiny();
  config.width = 192;
  config.head_dim = 64;
  const MambaMixer mixer(config);
  for (const auto& direction : mixer.directions) {
    EXPECT_TRUE(
        at::allclose(direction.A_log.exp(), at::arange(1, 17, at::kFloat).expand({384, 16}), 1e-5));
    EXPECT_TRUE(at::equal(direction.D, at::ones({384})));
    const at::Tensor dt = at::softplus(direction.dt_proj->bias);
    EXPECT_GE(dt.min().item<double>(), 0.99e-3);
    EXPECT_LE(dt.max().item<double>(), 0.101);
  }
}

TEST(MambaMixer, WeightsLoadByVisionMambasNames) {
  at::manual_seed(53);
  Backbone source(tiny()), target(tiny());
  std::map<std::string, at::Tensor> theirs;
  for (const auto& item : source->named_parameters()) {
    std::string name = item.key();
    if (name == "norm.weight") {
      name = "norm_f.weight";
    } else if (name == "blocks.0.norm1.weight") {
      name = "layers.0.norm.weight";
    } else if (name.starts_with("blocks.")) {
      name = "layers." + name.substr(7);
    }
    theirs.emplace(name, item.value().detach());
  }
  for (const char* name :
       {"layers.0.mixer.in_proj.weight", "layers.0.mixer.conv1d.bias", "layers.0.mixer.A_log",
        "layers.0.mixer.A_b_log", "layers.0.mixer.D_b", "layers.0.mixer.conv1d_b.weight",
        "layers.0.mixer.x_proj_b.weight", "layers.0.mixer.dt_proj_b.bias",
        "layers.0.mixer.out_proj.weight", "layers.0.norm.weight", "norm_f.weight", "cls_token",
        "pos_embed", "patch_embed.proj.weight"}) {
    EXPECT_TRUE(theirs.contains(name)) << name;
  }
  import_weights(*target, theirs, WeightsUse::inference, "vim.safetensors");
  const at::Tensor images = at::randn({1, 3, 8, 8});
  EXPECT_TRUE(at::equal(source(images), target(images)));
}

}  // namespace
}  // namespace comba::vision
