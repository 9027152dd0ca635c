// Every mixer in fp32, forward and gradients, against itself in fp64 on the CPU, whose definitions have tests of their own.
#include "vision/nn/mixer.h"

#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

namespace comba::vision {
namespace {

struct Case {
  std::string name;
  std::function<void(BackboneConfig&)> change;
};

std::vector<Case> cases() {
  std::vector<Case> all = {
      {"iplr", [](auto& c) { c.form = "iplr"; }},
      {"concat", [](auto& c) { c.merge = "concat"; }},
      {"one_direction", [](auto& c) { c.directions = "forward"; }},
      {"no_conv", [](auto& c) { c.conv = "none"; }},
      {"inner_width", [](auto& c) { c.inner_width = 96; }},
  };
  for (const std::string& name : mixer_names()) {
    all.push_back({name, [name](auto& c) { c.mixer = name; }});
  }
  return all;
}

struct Outcome {
  at::Tensor y;
  std::vector<std::pair<std::string, at::Tensor>> gradients;  // of the input and every parameter
};

Outcome run(Mixer& mixer, const at::Tensor& input, const at::Tensor& weights) {
  const at::Tensor x = input.detach().clone().requires_grad_();
  const at::Tensor y = mixer.forward(x);
  (y * weights).sum().backward();
  Outcome outcome{y.detach(), {{"input", x.grad()}}};
  for (const auto& item : mixer.named_parameters()) {
    outcome.gradients.emplace_back(item.key(), item.value().grad());
  }
  return outcome;
}

double size(const at::Tensor& x) { return x.to(at::kDouble).norm().item<double>(); }

void expect_parity(const Case& parity, const c10::Device& device) {
  SCOPED_TRACE(parity.name);
  BackboneConfig config;
  config.image_size = 48;
  config.patch_size = 8;
  config.width = 64;
  config.head_dim = 32;
  config.agents = 9;
  parity.change(config);
  at::manual_seed(61);
  const auto exact = make_mixer(config.mixer, config), mixer = make_mixer(config.mixer, config);
  {
    const at::NoGradGuard no_grad;  // values large enough for every term to count
    const auto from = exact->parameters(), to = mixer->parameters();
    for (size_t i = 0; i < from.size(); ++i) {
      from[i].add_(at::randn_like(from[i]), 0.1);
      to[i].copy_(from[i]);
    }
  }
  exact->to(at::kDouble);
  mixer->to(device);
  const at::Tensor x = at::randn({3, 36, 64}), weights = at::randn({3, 36, 64});
  const Outcome expected = run(*exact, x.to(at::kDouble), weights.to(at::kDouble));
  const Outcome got = run(*mixer, x.to(device), weights.to(device));
  const auto error = [](const at::Tensor& a, const at::Tensor& b) {
    return size(a.to(at::kCPU, at::kDouble) - b);
  };
  EXPECT_LT(error(got.y, expected.y), 1e-5 * size(expected.y));
  for (size_t i = 0; i < expected.gradients.size(); ++i) {
    const auto& [name, gradient] = expected.gradients[i];
    EXPECT_LT(error(got.gradients[i].second, gradient), 1e-5 * size(gradient)) << name;
  }
}

TEST(MixerParity, InFp32EveryMixerIsItselfInFp64) {
  for (const Case& parity : cases()) {
    expect_parity(parity, at::kCPU);
  }
}

TEST(MixerParity, OnCudaInFp32EveryMixerIsItselfInFp64) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  const bool allowed = at::globalContext().allowTF32CuDNN();
  at::globalContext().setAllowTF32CuDNN(false);
  for (const Case& parity : cases()) {
    expect_parity(parity, at::Device("cuda:0"));
  }
  at::globalContext().setAllowTF32CuDNN(allowed);
}

}  // namespace
}  // namespace comba::vision
