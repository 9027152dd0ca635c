// The inference forms against the modules that they are made from.
#include "kernels/mixer_inference.h"
#include "vision/nn/mixer.h"
#include "vision/prepared_backbone.h"

#include <functional>

#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <gtest/gtest.h>

namespace comba::vision {
namespace {

struct Case {
  const char* name;
  BackboneConfig config;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

Case make_case(const char* name, const std::function<void(BackboneConfig&)>& change = {}) {
  BackboneConfig config;
  config.image_size = 32;
  config.patch_size = 8;
  config.width = 64;
  config.depth = 3;
  config.head_dim = 32;
  if (change) {
    change(config);
  }
  return {name, config};
}

class PreparedForms : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    at::manual_seed(5);
    backbone_ = Backbone(GetParam().config);
    backbone_->eval();
    const at::NoGradGuard no_grad;  // values large enough for every term to count
    for (const auto& parameter : backbone_->parameters()) {
      parameter.add_(at::randn_like(parameter), 0.05);
    }
    tokens_ = at::randn({2, 21, 64});
  }
  // By the modules, in fp64.
  at::Tensor expected(int64_t prefix) {
    Backbone exact(GetParam().config);
    {
      const at::NoGradGuard no_grad;
      const auto from = backbone_->parameters(), to = exact->parameters();
      for (size_t i = 0; i < from.size(); ++i) {
        to[i].copy_(from[i]);
      }
    }
    exact->to(at::kDouble);
    exact->eval();
    TokenStream stream{tokens_.to(at::kDouble), {}, {}};
    for (Block block : exact->blocks()) {
      block->forward(stream, prefix);
    }
    return Norm(exact->norm())->take(stream).detach();
  }
  static double error(const at::Tensor& got, const at::Tensor& wanted) {
    const at::Tensor exact = wanted.to(at::kDouble);
    return (got.detach().to(at::kCPU, at::kDouble) - exact).norm().item<double>() /
           exact.norm().item<double>();
  }

  Backbone backbone_{nullptr};
  at::Tensor tokens_;
};

TEST_P(PreparedForms, GiveWhatTheModulesGive) {
  const at::NoGradGuard no_grad;
  for (const int64_t prefix : {0, 5}) {
    const PreparedBackbone prepared(backbone_, tokens_.options(), prefix > 0);
    at::Tensor x = tokens_.clone();
    prepared.run(x, prefix);
    EXPECT_LT(error(prepared.norm(x), expected(prefix)), 1e-5) << "prefix " << prefix;
  }
}

TEST_P(PreparedForms, InPartsGiveWhatTheWholeGives) {
  const at::NoGradGuard no_grad;
  const PreparedBackbone prepared(backbone_, tokens_.options(), true);
  if (!prepared.takes_parts()) {
    return;  // the forms that run module by module
  }
  at::Tensor first = tokens_.narrow(1, 0, 5).contiguous(),
             rest = tokens_.narrow(1, 5, 16).contiguous();
  std::vector<MixerMemory> memory;
  prepared.run_part(first, nullptr, &memory);
  prepared.run_part(rest, &memory, nullptr);
  EXPECT_LT(error(prepared.norm(at::cat({first, rest}, 1)), expected(5)), 1e-5);
}

TEST_P(PreparedForms, CudaGivesWhatTheModulesGiveToHalfPrecision) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  const at::NoGradGuard no_grad;
  for (const int64_t prefix : {0, 5}) {
    const at::Tensor wanted = expected(prefix);
    Backbone on_gpu = backbone_;
    on_gpu->to(at::kCUDA);
    const auto options = at::TensorOptions().device(at::kCUDA).dtype(at::kHalf);
    const PreparedBackbone prepared(on_gpu, options, prefix > 0);
    at::Tensor x = tokens_.to(options);
    prepared.run(x, prefix);
    EXPECT_LT(error(prepared.norm(x), wanted), 5e-3) << "prefix " << prefix;
    on_gpu->to(at::kCPU);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, PreparedForms,
    testing::Values(make_case("splr"), make_case("iplr", [](auto& c) { c.form = "iplr"; }),
                    make_case("gated_delta", [](auto& c) { c.mixer = "gated_delta"; }),
                    make_case("delta", [](auto& c) { c.mixer = "delta"; }),
                    make_case("retention", [](auto& c) { c.mixer = "retention"; }),
                    make_case("gla", [](auto& c) { c.mixer = "gla"; }),
                    make_case("mamba", [](auto& c) { c.mixer = "mamba"; }),
                    make_case("concat", [](auto& c) { c.merge = "concat"; }),
                    make_case("inner_width", [](auto& c) { c.inner_width = 96; }),
                    make_case("no_mlp", [](auto& c) { c.mlp_ratio = 0; }),
                    make_case("softmax",
                              [](auto& c) {
                                c.mixer = "softmax";
                                c.norm = "layer";
                                c.qkv_bias = c.mlp_bias = true;
                              }),
                    make_case("hybrid",
                              [](auto& c) { c.mixers = {"comba", "softmax", "gated_delta"}; }),
                    make_case("sum", [](auto& c) { c.merge = "sum"; }),
                    make_case("shared_conv", [](auto& c) { c.conv = "shared"; }),
                    make_case("two_taps", [](auto& c) { c.conv_size = 2; }),
                    make_case("no_gate", [](auto& c) { c.gate_rank = 0; }),
                    make_case("full_gate", [](auto& c) { c.gate_rank = 64; }),
                    make_case("no_correction", [](auto& c) { c.output_correction = false; }),
                    make_case("no_scale", [](auto& c) { c.feedback_scale = false; }),
                    make_case("no_qk_norm",
                              [](auto& c) {
                                c.mixer = "gated_delta";
                                c.qk_norm = false;
                              }),
                    make_case("no_conv", [](auto& c) { c.conv = "none"; }),
                    make_case("one_direction", [](auto& c) { c.directions = "forward"; })),
    [](const auto& test) { return std::string(test.param.name); });

TEST(InferenceKernels, GeluIsTheExactOneFromEndToEnd) {
  at::Tensor x = at::cat({at::linspace(-12, 12, 10007), at::tensor({-1e30F, 1e30F, 0.F})});
  const at::Tensor expected = at::gelu(x.to(at::kDouble));
  kernels::gelu_inference_(x);
  const at::Tensor error = (x.to(at::kDouble) - expected).abs() / (1 + expected.abs());
  EXPECT_LT(error.max().item<double>(), 5e-7);
  at::Tensor broken = at::full({3}, NAN);
  kernels::gelu_inference_(broken);
  EXPECT_TRUE(broken.isnan().all().item<bool>());
}

TEST(InferenceKernels, RmsNormIsItsFormula) {
  at::manual_seed(6);
  const at::Tensor x = at::randn({7, 5, 24}) * 3, weight = at::randn({24});
  const at::Tensor wide = x.to(at::kDouble);
  const at::Tensor expected =
      wide / (wide.square().mean(-1, true) + 1e-3).sqrt() * weight.to(at::kDouble);
  EXPECT_TRUE(at::allclose(kernels::rms_norm_inference(x, weight, 1e-3).to(at::kDouble), expected,
                           1e-5, 1e-6));
}

TEST(InferenceKernels, NanInOneHeadStaysInItsSampleAndHead) {
  at::manual_seed(7);
  kernels::PreparedMixerWeights w;
  w.taps = at::randn({2, 3, 2, 4, 16});
  w.rate = at::rand({2, 2});
  w.bias = at::randn({2, 2});
  w.feedback = at::rand({2, 2});
  w.d = at::rand({2, 2});
  w.norm_weight = at::ones({16});
  kernels::MixerProjections x;
  x.qkv = at::randn({2, 9, 3, 2, 16});
  x.raw = at::randn({2, 9, 2, 2, 2});
  const at::Tensor clean = kernels::mixer_inference(x, w, nullptr, nullptr);
  x.raw[1][4][0][0][1] = NAN;
  const at::Tensor y = kernels::mixer_inference(x, w, nullptr, nullptr);
  EXPECT_TRUE(y[0].equal(clean[0]));
  EXPECT_TRUE(y[1].select(1, 0).equal(clean[1].select(1, 0)));
  EXPECT_TRUE(y[1][8][1].isnan().all().item<bool>());
}

TEST(InferenceKernels, RefuseWhatTheyAreNotBuiltFor) {
  kernels::PreparedMixerWeights w;
  w.taps = at::zeros({2, 3, 2, 4, 16});
  w.rate = w.bias = w.feedback = w.d = at::zeros({2, 2});
  w.norm_weight = at::ones({16});
  kernels::MixerProjections x;
  x.qkv = at::zeros({1, 9, 3, 2, 16});
  x.raw = at::zeros({1, 9, 2, 2, 2});
  EXPECT_NO_THROW(kernels::mixer_inference(x, w, nullptr, nullptr));
  kernels::MixerProjections bad = x;
  bad.qkv = x.qkv.to(at::kDouble);
  EXPECT_THROW(kernels::mixer_inference(bad, w, nullptr, nullptr), c10::Error);
  bad = x;
  bad.raw = at::zeros({1, 8, 2, 2, 2});
  EXPECT_THROW(kernels::mixer_inference(bad, w, nullptr, nullptr), c10::Error);
  bad = x;
  bad.qkv = at::zeros({1, 9, 3, 2, 10});
  EXPECT_THROW(kernels::mixer_inference(bad, w, nullptr, nullptr), c10::Error);
  kernels::MixerMemory memory;
  bad = x;
  bad.qkv = at::zeros({1, 2, 3, 2, 16});
  bad.raw = at::zeros({1, 2, 2, 2, 2});
  EXPECT_THROW(kernels::mixer_inference(bad, w, nullptr, &memory), c10::Error)
      << "too few tokens to remember";
}

}  // namespace
}  // namespace comba::vision
