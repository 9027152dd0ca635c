#include "vision/engine/optimizer.h"

#include "vision/base/error.h"

#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/nn/module.h>

namespace comba::vision {
namespace {

struct Pair : torch::nn::Module {
  Pair() {
    weight = register_parameter("weight", at::tensor({0.5F, -1.0F, 2.0F, 0.25F}).view({2, 2}));
    bias = register_parameter("bias", at::tensor({1.0F, -0.5F}));
  }
  void set_gradients(float base) {
    weight.mutable_grad() = at::tensor({base, -0.3F, 0.2F * base, 4.0F}).view({2, 2});
    bias.mutable_grad() = at::tensor({-base, 0.7F});
  }
  at::Tensor weight, bias;
};

// The textbook update, one number at a time in double precision.
struct ScalarAdamW {
  double value, mean = 0.0, square = 0.0;
  void step(double gradient, int t, double lr, double decay) {
    constexpr double kBeta1 = 0.9, kBeta2 = 0.99, kEps = 1e-8;
    value -= lr * decay * value;
    mean = kBeta1 * mean + (1 - kBeta1) * gradient;
    square = kBeta2 * square + (1 - kBeta2) * gradient * gradient;
    const double corrected_mean = mean / (1 - std::pow(kBeta1, t));
    const double corrected_square = square / (1 - std::pow(kBeta2, t));
    value -= lr * corrected_mean / (std::sqrt(corrected_square) + kEps);
  }
};

const OptimizerOptions kOptions{
    .update = {.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8}, .weight_decay = 0.1, .lr_scale = {}};

TEST(AdamW, FollowsTheScalarRecurrenceWithDecayOnMatricesOnly) {
  Pair model;
  Optimizer optimizer(model, kOptions);
  std::vector<ScalarAdamW> weight = {{0.5}, {-1.0}, {2.0}, {0.25}}, bias = {{1.0}, {-0.5}};
  for (int t = 1; t <= 20; ++t) {
    const float base = std::sin(static_cast<float>(t));
    const double lr = 0.01 * t;
    model.set_gradients(base);
    const double weight_gradients[] = {base, -0.3F, 0.2F * base, 4.0F};
    const double bias_gradients[] = {-base, 0.7F};
    optimizer.step(lr);
    for (int i = 0; i < 4; ++i) {
      weight[static_cast<size_t>(i)].step(weight_gradients[i], t, lr, 0.1);
      EXPECT_NEAR(model.weight.view({4})[i].item<double>(), weight[static_cast<size_t>(i)].value,
                  2e-5);
    }
    for (int i = 0; i < 2; ++i) {
      bias[static_cast<size_t>(i)].step(bias_gradients[i], t, lr, 0.0);
      EXPECT_NEAR(model.bias[i].item<double>(), bias[static_cast<size_t>(i)].value, 2e-5);
    }
  }
}

TEST(AdamW, ClipsByTheGlobalNorm) {
  // After one step Adam's update is lr * g / (|g| + eps'), blind to the scale; a large eps makes it visible.
  OptimizerOptions options = kOptions;
  options.update.eps = 1.0;
  options.weight_decay = 0.0;
  options.clip_grad = 0.5;
  Pair model;
  Optimizer optimizer(model, options);
  model.set_gradients(3.0F);
  const double norm = std::sqrt(9.0 + 0.09 + 0.36 + 16.0 + 9.0 + 0.49);
  const double gradient = 4.0 * 0.5 / norm;
  optimizer.step(0.1);
  EXPECT_NEAR(optimizer.gradient_norm(), norm, 1e-5);
  EXPECT_NEAR(model.weight.view({4})[3].item<double>(), 0.25 - 0.1 * gradient / (gradient + 1.0),
              1e-6);
}

TEST(AdamW, LeavesSmallGradientsUnclipped) {
  OptimizerOptions options = kOptions;
  options.update.eps = 1.0;
  options.weight_decay = 0.0;
  options.clip_grad = 1000.0;
  Pair model;
  Optimizer optimizer(model, options);
  model.set_gradients(3.0F);
  optimizer.step(0.1);
  EXPECT_NEAR(model.weight.view({4})[3].item<double>(), 0.25 - 0.1 * 4.0 / (4.0 + 1.0), 1e-6);
}

TEST(AdamW, SkipsAStepWhoseGradientsAreNotFinite) {
  Pair model, reference;
  Optimizer optimizer(model, kOptions), undisturbed(reference, kOptions);
  for (int t = 0; t < 3; ++t) {
    model.set_gradients(1.0F);
    optimizer.step(0.01);
    model.set_gradients(t == 0 ? std::numeric_limits<float>::quiet_NaN()
                               : std::numeric_limits<float>::infinity());
    optimizer.step(0.01);
    reference.set_gradients(1.0F);
    undisturbed.step(0.01);
  }
  EXPECT_EQ(optimizer.skipped(), 3.0);
  EXPECT_TRUE(model.weight.equal(reference.weight));
  EXPECT_TRUE(model.bias.equal(reference.bias));
}

TEST(AdamW, ContinuesBitForBitFromARestoredState) {
  Pair straight, resumed;
  Optimizer optimizer(straight, kOptions);
  for (int t = 0; t < 5; ++t) {
    straight.set_gradients(0.1F * static_cast<float>(t));
    optimizer.step(0.01);
  }
  Optimizer restored(resumed, kOptions);
  std::map<std::string, at::Tensor> state;
  for (const auto& [name, tensor] : optimizer.state()) {
    state[name] = tensor.clone();
  }
  restored.load_state(state);
  {
    const at::NoGradGuard no_grad;
    resumed.weight.copy_(straight.weight);
    resumed.bias.copy_(straight.bias);
  }
  for (int t = 0; t < 5; ++t) {
    straight.set_gradients(-0.2F);
    optimizer.step(0.02);
    resumed.set_gradients(-0.2F);
    restored.step(0.02);
  }
  EXPECT_TRUE(straight.weight.equal(resumed.weight));
  EXPECT_TRUE(straight.bias.equal(resumed.bias));
}

TEST(AdamW, NamesTheTensorAForeignStateLacks) {
  Pair model;
  Optimizer optimizer(model, kOptions);
  try {
    optimizer.load_state({});
    FAIL() << "an empty state was accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("exp_avg.weight"), std::string::npos) << error.what();
  }
}

TEST(WeightDecay, SparesVectorsBiasesEmbeddingsAndTheRecurrence) {
  const at::Tensor vector = at::zeros({4}), matrix = at::zeros({4, 4}),
                   token = at::zeros({1, 1, 4});
  EXPECT_TRUE(takes_weight_decay("blocks.0.mixer.q_proj.weight", matrix));
  EXPECT_TRUE(takes_weight_decay("patch_embed.proj.weight", at::zeros({4, 3, 2, 2})));
  EXPECT_FALSE(takes_weight_decay("blocks.0.norm1.weight", vector));
  EXPECT_FALSE(takes_weight_decay("head.bias", vector));
  EXPECT_FALSE(takes_weight_decay("pos_embed", token));
  EXPECT_FALSE(takes_weight_decay("cls_token", token));
  for (const char* name :
       {"A_log", "dt_bias", "D", "decay", "A_log_b", "A_b_log", "dt_bias_b", "D_b", "decay_b"}) {
    EXPECT_FALSE(takes_weight_decay(std::string("blocks.0.mixer.") + name, matrix)) << name;
  }
}

TEST(AdamW, AShareOfTheRateIsThatRate) {
  Pair whole, shared;
  OptimizerOptions options = kOptions;
  Optimizer plain(whole, options);
  options.lr_scale = [](const std::string& name) { return name == "bias" ? 0.25 : 1.0; };
  options.decay_all = true;
  Optimizer scaled(shared, options);
  OptimizerOptions quarter = kOptions;
  quarter.decay_all = true;
  Pair slow;
  Optimizer slowly(slow, quarter);
  for (int t = 1; t <= 5; ++t) {
    for (Pair* model : {&whole, &shared, &slow}) {
      model->set_gradients(std::sin(static_cast<float>(t)));
    }
    plain.step(0.01);
    scaled.step(0.01);
    slowly.step(0.0025);
  }
  EXPECT_TRUE(shared.weight.equal(whole.weight));
  EXPECT_TRUE(shared.bias.equal(slow.bias)) << "a quarter of the rate, and decayed";
  EXPECT_FALSE(shared.bias.equal(whole.bias));
}

OptimizerOptions with_rule(UpdateRule rule) {
  OptimizerOptions options = kOptions;
  options.rule = rule;
  return options;
}

// Twenty steps of rates 0.01 t; `at(t)` after each.
template <typename At>
void run_twenty_steps(const OptimizerOptions& options, Pair& model, const At& at) {
  Optimizer optimizer(model, options);
  for (int t = 1; t <= 20; ++t) {
    model.set_gradients(std::sin(static_cast<float>(t)));
    optimizer.step(0.01 * t);
    at(t);
  }
}

// tests/golden/make_lamb.py, timm's own class in double precision.
TEST(Lamb, GivesWhatTimmGives) {
  const std::map<int, std::vector<double>> golden = {
      {1, {0.488957260, -0.988431416, 1.987379727, 0.239220183, 1.010000000, -0.510000000}},
      {5, {0.423341737, -0.791385033, 1.894894243, 0.055608775, 1.061956101, -0.649999998}},
      {20, {0.268247783, 2.437272930, 1.299528745, -2.952913501, 1.116581571, -2.599999970}}};
  Pair model;
  run_twenty_steps(with_rule(UpdateRule::lamb), model, [&](int t) {
    if (!golden.contains(t)) {
      return;
    }
    for (int i = 0; i < 6; ++i) {
      const double value =
          i < 4 ? model.weight.view({4})[i].item<double>() : model.bias[i - 4].item<double>();
      EXPECT_NEAR(value, golden.at(t)[static_cast<size_t>(i)], 2e-5) << "step " << t << ", " << i;
    }
  });
}

TEST(Lamb, LeavesAParameterOfZerosToAdamsStep) {
  Pair model;
  {
    const at::NoGradGuard no_grad;
    model.weight.zero_();
  }
  Optimizer optimizer(model, with_rule(UpdateRule::lamb));
  model.set_gradients(2.0F);
  optimizer.step(0.5);
  EXPECT_NEAR(model.weight.view({4})[3].item<double>(), -0.5, 1e-6);  // sign of the gradient
}

TEST(Sgd, FollowsNesterovsRecurrenceWithTheDecayInTheGradient) {
  OptimizerOptions options = with_rule(UpdateRule::sgd);
  options.update.momentum = 0.8;
  Pair model;
  double weight = 0.25, bias = -0.5, weight_momentum = 0.0, bias_momentum = 0.0;
  const auto follow = [](double& value, double& momentum, double gradient, double decay,
                         double lr) {
    gradient += decay * value;
    momentum = 0.8 * momentum + gradient;
    value -= lr * (gradient + 0.8 * momentum);
  };
  run_twenty_steps(options, model, [&](int t) {
    follow(weight, weight_momentum, 4.0, 0.1, 0.01 * t);
    follow(bias, bias_momentum, 0.7F, 0.0, 0.01 * t);
    EXPECT_NEAR(model.weight.view({4})[3].item<double>(), weight, 1e-4) << t;
    EXPECT_NEAR(model.bias[1].item<double>(), bias, 1e-5) << t;
  });
}

TEST(Rules, SkipStepsWhoseGradientsAreNotFiniteAndGoOnFromARestoredState) {
  for (const UpdateRule rule : {UpdateRule::lamb, UpdateRule::sgd}) {
    Pair model, reference;
    Optimizer optimizer(model, with_rule(rule)), undisturbed(reference, with_rule(rule));
    const auto step = [](Pair& of, Optimizer& by, float gradient) {
      of.set_gradients(gradient);
      by.step(0.01);
    };
    step(model, optimizer, std::numeric_limits<float>::quiet_NaN());  // before any other, too
    for (int t = 0; t < 3; ++t) {
      step(model, optimizer, 1.0F);
      step(model, optimizer, std::numeric_limits<float>::infinity());
      step(reference, undisturbed, 1.0F);
    }
    EXPECT_EQ(optimizer.skipped(), 4.0);
    EXPECT_TRUE(model.weight.equal(reference.weight));
    EXPECT_TRUE(model.bias.equal(reference.bias));

    std::map<std::string, at::Tensor> state;
    for (const auto& [name, tensor] : undisturbed.state()) {
      state[name] = tensor.clone();
    }
    Optimizer restored(model, with_rule(rule));
    restored.load_state(state);
    step(model, restored, -0.2F);
    step(reference, undisturbed, -0.2F);
    EXPECT_TRUE(model.weight.equal(reference.weight));
  }
}

TEST(Rules, AStateOfAnotherRuleIsRefusedByTheNameOfWhatItLacks) {
  Pair model;
  const Optimizer adamw(model, kOptions);
  std::map<std::string, at::Tensor> state;
  for (const auto& [name, tensor] : adamw.state()) {
    state[name] = tensor;
  }
  Optimizer sgd(model, with_rule(UpdateRule::sgd));
  try {
    sgd.load_state(state);
    FAIL() << "AdamW's moments were taken for momentum";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("momentum.weight"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace comba::vision
