// Backbones: exact sizes and costs, every layout runs, contradictions are named.
#include "vision/backbone.h"

#include "classify/classifier.h"
#include "classify/config.h"
#include "vision/base/error.h"
#include "vision/layer_decay.h"
#include "vision/model_cost.h"
#include "vision/nn/mixer.h"

#include <cmath>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

namespace comba::vision {
namespace {

int64_t parameters(const std::string& config_file) {
  classify::RunConfig config;
  classify::read_run_config(std::string(COMBA_SOURCE_DIR) + "/configs/imagenet/" + config_file, {},
                            config);
  const classify::Classifier model(config.model, 1000);
  int64_t count = 0;
  for (const auto& parameter : model->parameters()) {
    count += parameter.numel();
  }
  return count;
}

// DeiT: timm 1.0.31. Comba: the layout worked out from the paper's table. Agent-DeiT and Vim: the sums of their published
// layers.
TEST(Backbone, HasExactlyThePublishedNumberOfParameters) {
  EXPECT_EQ(parameters("comba_t.toml"), 5'848'456);
  EXPECT_EQ(parameters("comba_s.toml"), 22'588'456);
  EXPECT_EQ(parameters("deit_t.toml"), 5'717'416);
  EXPECT_EQ(parameters("deit_s.toml"), 22'050'664);
  EXPECT_EQ(parameters("agent_t.toml"), 6'015'640);
  EXPECT_EQ(parameters("agent_s.toml"), 22'647'112);
  EXPECT_EQ(parameters("vim_t.toml"), 7'148'008);
  EXPECT_EQ(parameters("vim_s.toml"), 25'796'584);
}

ModelCost cost(const std::string& config_file) {
  classify::RunConfig config;
  classify::read_run_config(std::string(COMBA_SOURCE_DIR) + "/configs/imagenet/" + config_file, {},
                            config);
  return model_cost(config.model, 1000);
}

// fvcore's counts for DeiT: 1.075 G and 4.241 G without the attention products, 1.254 and 4.599 with them.
TEST(ModelCost, AgreesWithCountersForDeit) {
  EXPECT_NEAR(cost("deit_t.toml").dense, 1.075e9, 1e6);
  EXPECT_NEAR(cost("deit_t.toml").total(), 1.254e9, 1e6);
  EXPECT_NEAR(cost("deit_s.toml").dense, 4.241e9, 1e6);
  EXPECT_NEAR(cost("deit_s.toml").total(), 4.599e9, 1e6);
}

// The authors of Agent Attention count 1.2 and 4.4 G, of Vim 1.5 and 5.1 G.
TEST(ModelCost, OfAgentAttentionAndVimIsNearTheirAuthorsCount) {
  EXPECT_NEAR(cost("agent_t.toml").total(), 1.17e9, 5e6);
  EXPECT_NEAR(cost("agent_s.toml").total(), 4.43e9, 5e6);
  EXPECT_NEAR(cost("vim_t.toml").dense, 1.29e9, 5e6);
  EXPECT_NEAR(cost("vim_s.toml").dense, 4.85e9, 5e6);
  EXPECT_NEAR(cost("vim_t.toml").total(), 1.55e9, 1e7);
  EXPECT_NEAR(cost("vim_s.toml").total(), 5.37e9, 1e7);
}

// Comba-T by hand: patches 196, d 192, 3 heads of 64, gate rank 24, conv 4 taps, 12 blocks.
TEST(ModelCost, OfCombaIsTheSumOfItsLayers) {
  const double d = 192, tokens = 196;
  const double block = 4 * d * d + 2 * d * 24 + 4 * d * 3 + 6 * d * 4 + 8 * d * d;
  EXPECT_EQ(cost("comba_t.toml").dense, tokens * 768 * d + 12 * tokens * block + d * 1000);
  EXPECT_EQ(cost("comba_t.toml").recurrence, 12 * tokens * 2 * 3 * 64 * d);
}

BackboneConfig small() {
  return {.image_size = 16, .patch_size = 4, .width = 16, .depth = 2, .head_dim = 8};
}

TEST(Backbone, EveryLayoutGivesFiniteFeaturesAndAGradientForEveryParameter) {
  at::manual_seed(21);
  for (const std::string& mixer : mixer_names()) {
    for (const char* norm : {"rms", "layer"}) {
      for (const char* pool : {"mean", "cls"}) {
        for (const char* position : {"none", "learned"}) {
          BackboneConfig config = small();
          config.mixer = mixer;
          config.norm = norm;
          config.pool = pool;
          config.position = position;
          Backbone model(config);
          const at::Tensor images = at::randn({2, 3, 16, 16});
          const at::Tensor features = model(images);
          EXPECT_EQ(features.sizes(), (at::IntArrayRef{2, 16}));
          EXPECT_EQ(model->forward_tokens(images).sizes(), (at::IntArrayRef{2, 16, 16}));
          features.square().sum().backward();
          for (const auto& item : model->named_parameters()) {
            ASSERT_TRUE(item.value().grad().defined()) << mixer << " " << item.key();
            EXPECT_TRUE(item.value().grad().isfinite().all().item<bool>())
                << mixer << " " << item.key();
          }
        }
      }
    }
  }
}

TEST(Backbone, HybridsTakeTheirMixersBlockByBlock) {
  BackboneConfig config = small();
  config.mixers = {"softmax", "comba"};
  const Backbone model(config);
  EXPECT_TRUE(model->named_parameters().contains("blocks.0.attn.qkv.weight"));
  EXPECT_TRUE(model->named_parameters().contains("blocks.1.mixer.q_proj.weight"));
}

TEST(Backbone, AShortListOfMixersRepeats) {
  BackboneConfig config = small();
  config.depth = 5;
  config.mixers = {"comba", "softmax"};
  const Backbone model(config);
  for (const int block : {0, 1, 2, 3, 4}) {
    const std::string name = "blocks." + std::to_string(block) + ".attn.qkv.weight";
    EXPECT_EQ(model->named_parameters().contains(name), block % 2 == 1) << name;
  }
}

TEST(Backbone, BlocksMayHaveNoMlp) {
  at::manual_seed(24);
  BackboneConfig config = small();
  config.mlp_ratio = 0;
  config.drop_path = 0.5;
  Backbone model(config);
  for (const auto& item : model->named_parameters()) {
    EXPECT_EQ(item.key().find("mlp"), std::string::npos) << item.key();
    EXPECT_EQ(item.key().find("norm2"), std::string::npos) << item.key();
  }
  model->eval();
  const at::Tensor images = at::randn({2, 3, 16, 16});
  at::Tensor x = PatchEmbed(model->patch_embed())->forward(images);
  for (const Block& block : model->blocks()) {
    x = x + block->mixer().forward(Norm(block->norm1())->forward(x));
  }
  EXPECT_TRUE(
      at::allclose(model->forward_tokens(images), Norm(model->norm())->forward(x), 1e-5, 1e-6));
}

// With a mixer that treats both directions alike, the middle token of 17 is what is read.
TEST(Backbone, AMiddleClassTokenStandsAmidThePatches) {
  at::manual_seed(25);
  BackboneConfig config = small();
  config.pool = "middle_cls";
  config.position = "learned";
  config.depth = 1;
  Backbone model(config);
  model->eval();
  const at::Tensor images = at::randn({1, 3, 16, 16});
  const auto parameters = model->named_parameters();
  at::Tensor patches = PatchEmbed(model->patch_embed())->forward(images);
  const at::Tensor x =
      at::cat({patches.narrow(1, 0, 8), parameters["cls_token"], patches.narrow(1, 8, 8)}, 1) +
      parameters["pos_embed"];
  TokenStream stream{x, {}, {}};
  Block(model->blocks()[0])->forward(stream);
  const at::Tensor y = Norm(model->norm())->take(stream);
  EXPECT_TRUE(at::allclose(model(images), y.select(1, 8), 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(model->forward_tokens(images),
                           at::cat({y.narrow(1, 0, 8), y.narrow(1, 9, 8)}, 1), 1e-5, 1e-6));
  EXPECT_TRUE(at::equal(model->positions(4), at::cat({parameters["pos_embed"].narrow(1, 0, 8),
                                                      parameters["pos_embed"].narrow(1, 9, 8)},
                                                     1)));
}

TEST(Backbone, MeanPooledFeaturesAreTheMeanOfTheTokens) {
  at::manual_seed(22);
  Backbone model(small());
  const at::Tensor images = at::randn({2, 3, 16, 16});
  EXPECT_TRUE(at::allclose(model(images), model->forward_tokens(images).mean(1)));
}

TEST(Backbone, AnImageDoesNotDependOnItsNeighboursInTheBatch) {
  at::manual_seed(23);
  Backbone model(small());
  model->eval();
  const at::Tensor images = at::randn({3, 3, 16, 16});
  EXPECT_TRUE(at::allclose(model(images)[1], model(images.narrow(0, 1, 1))[0], 1e-5, 1e-6));
}

TEST(Backbone, AWrongImageShapeNamesExpectedAndGot) {
  Backbone model(small());
  try {
    model(at::zeros({1, 3, 20, 16}));
    FAIL();
  } catch (const c10::Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("[B, 3, 16, 16]"), std::string::npos) << message;
    EXPECT_NE(message.find("[1, 3, 20, 16]"), std::string::npos) << message;
  }
}

TEST(BackboneConfigTest, ContradictionsNameBothKeys) {
  const auto message = [](const std::function<void(BackboneConfig&)>& change) {
    BackboneConfig config = small();
    change(config);
    try {
      validate(config);
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message([](BackboneConfig&) {}), "");
  EXPECT_NE(message([](auto& c) { c.patch_size = 5; }).find("model.image_size = 16"),
            std::string::npos);
  EXPECT_NE(message([](auto& c) { c.head_dim = 6; }).find("model.width = 16"), std::string::npos);
  EXPECT_NE(
      message([](auto& c) { c.mixers = {"comba", "comba", "comba"}; }).find("model.depth = 2"),
      std::string::npos);
  EXPECT_NE(message([](auto& c) { c.inner_width = 20; }).find("model.head_dim = 8"),
            std::string::npos);
  EXPECT_NE(message([](auto& c) {
              c.merge = "concat";
              c.directions = "forward";
            }).find("model.directions"),
            std::string::npos);
  EXPECT_NE(message([](auto& c) { c.agents = 50; }).find("square"), std::string::npos);
  EXPECT_NE(message([](auto& c) {
              c.mixer = "agent";
              c.pool = "middle_cls";
            }).find("model.mixer"),
            std::string::npos);
  EXPECT_NE(message([](auto& c) { c.gate_rank = 17; }).find("model.width"), std::string::npos);
  EXPECT_NE(message([](auto& c) { c.in_channels = 2; }).find("model.in_channels"),
            std::string::npos);
}

TEST(LayerDecay, FallsFromTheHeadToTheInput) {
  const auto share = [](const char* parameter) { return layer_lr_share(parameter, 12, 0.5); };
  EXPECT_EQ(share("head.weight"), 1.0);
  EXPECT_EQ(share("norm.weight"), 1.0);
  EXPECT_EQ(share("blocks.11.mlp.fc1.weight"), 0.5);
  EXPECT_EQ(share("blocks.1.norm1.weight"), std::pow(0.5, 11));
  EXPECT_EQ(share("blocks.0.mixer.q_proj.weight"), std::pow(0.5, 12));
  for (const char* embedding : {"patch_embed.proj.weight", "pos_embed", "cls_token"}) {
    EXPECT_EQ(share(embedding), std::pow(0.5, 13)) << embedding;
  }
  EXPECT_EQ(layer_lr_share("pos_embed", 12, 1.0), 1.0);
}

}  // namespace
}  // namespace comba::vision
