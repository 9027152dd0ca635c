#include "vision/engine/ema.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>
#include <torch/nn/module.h>

namespace comba::vision {
namespace {

struct One : torch::nn::Module {
  One() { weight = register_parameter("weight", at::full({3}, 1.0F)); }
  void set(float value) {
    const at::NoGradGuard no_grad;
    weight.fill_(value);
  }
  at::Tensor weight;
};

double average_of(const WeightAverage& average) {
  return average.state()[0].second[0].item<double>();
}

TEST(WeightAverage, FollowsTheWarmedUpRecurrence) {
  One model;
  WeightAverage average(model, 0.9);
  double expected = 1.0;
  for (int n = 0; n < 200; ++n) {
    const float value = static_cast<float>((n * 7) % 11);
    model.set(value);
    average.update();
    const double decay = std::min(0.9, (1.0 + n) / (10.0 + n));
    expected = decay * expected + (1.0 - decay) * value;
    ASSERT_NEAR(average_of(average), expected, 1e-4) << "update " << n;
  }
}

TEST(WeightAverage, GivesTheExactWeightsBackAfterItsScope) {
  One model;
  WeightAverage average(model, 0.5);
  model.set(0.1F);
  average.update();
  {
    const WeightAverage::Scope scope(average);
    EXPECT_NEAR(model.weight[0].item<double>(), average_of(average), 0.0);
    EXPECT_NE(model.weight[0].item<float>(), 0.1F);
  }
  EXPECT_EQ(model.weight[0].item<float>(), 0.1F);
}

TEST(WeightAverage, ContinuesFromARestoredState) {
  One model;
  WeightAverage straight(model, 0.99), resumed(model, 0.99);
  model.set(3.0F);
  for (int i = 0; i < 4; ++i) {
    straight.update();
  }
  resumed.load_state({{"weight", straight.state()[0].second.clone()}}, straight.updates());
  model.set(-2.0F);
  straight.update();
  resumed.update();
  EXPECT_TRUE(straight.state()[0].second.equal(resumed.state()[0].second));
}

}  // namespace
}  // namespace comba::vision
