// Weights of other programs and of other sizes in models of ours. timm_small.safetensors: tests/golden/make_timm_small.py.
#include "classify/bundle.h"
#include "classify/task.h"
#include "tests/base/temporary_folder.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/engine/import_weights.h"
#include "vision/io/safetensors.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <nlohmann/json.hpp>

namespace comba::vision {
namespace {

using testing_tools::message_of;
using testing_tools::TemporaryFolder;
using Tensors = std::map<std::string, at::Tensor>;

const SafetensorsFile& golden() {
  static const SafetensorsFile file =
      load_safetensors(COMBA_SOURCE_DIR "/tests/golden/timm_small.safetensors");
  return file;
}

Tensors weights_of(const std::string& kind) {
  const std::string prefix = kind + "/weights/";
  Tensors weights;
  for (const auto& [name, tensor] : golden().tensors) {
    if (name.starts_with(prefix)) {
      weights.emplace(name.substr(prefix.size()), tensor);
    }
  }
  return weights;
}

BackboneConfig comba_config() {
  return {
      .image_size = 16, .patch_size = 4, .width = 16, .depth = 2, .head_dim = 16, .gate_rank = 16};
}

BackboneConfig deit_config() {
  BackboneConfig config = comba_config();
  config.mixer = "softmax";
  config.norm = "layer";
  config.pool = "cls";
  config.position = "learned";
  config.qkv_bias = config.mlp_bias = true;
  return config;
}

std::string refusal(const BackboneConfig& config, int64_t classes, const Tensors& tensors,
                    WeightsUse use) {
  classify::Classifier model(config, classes);
  return message_of<Error>([&] { import_weights(*model, tensors, use, "w.pth"); });
}

class TimmAnswers : public testing::TestWithParam<const char*> {};

TEST_P(TimmAnswers, AreGivenAtTheSizeOfTrainingAndAtAnother) {
  const std::string kind = GetParam();
  for (const int64_t size : {16, 24}) {
    BackboneConfig config = deit_config();
    config.image_size = size;
    classify::Classifier model(config, 5);
    model->eval();
    import_weights(*model, weights_of(kind), WeightsUse::inference, "w.pth");
    const at::NoGradGuard no_grad;
    const at::Tensor wanted = golden().tensors.at(fmt::format("{}/logits_{}", kind, size));
    const at::Tensor logits = model(golden().tensors.at(fmt::format("images_{}", size)));
    EXPECT_LT((logits - wanted).abs().max().item<double>(), 1e-4) << size;
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, TimmAnswers, testing::Values("deit", "deit3"));

TEST(ImportWeights, PatchesOfGreyImagesAnswerAsTimmsDo) {
  BackboneConfig config = deit_config();
  config.in_channels = 1;
  classify::Classifier model(config, 5);
  model->eval();
  const KeyDiff diff = import_weights(*model, weights_of("deit"), WeightsUse::inference, "w.pth");
  EXPECT_EQ(diff.changed,
            std::vector<std::string>{"patch_embed.proj.weight [16, 3, 4, 4] -> [16, 1, 4, 4]"});
  const at::NoGradGuard no_grad;
  const at::Tensor logits = model(golden().tensors.at("images_16").narrow(1, 0, 1));
  EXPECT_LT((logits - golden().tensors.at("deit/grey_logits")).abs().max().item<double>(), 1e-4);
}

TEST(ImportWeights, GreyPatchesSpreadOverColoursAnswerTheSameToGreyImages) {
  BackboneConfig grey = deit_config(), colour = deit_config();
  grey.in_channels = 1;
  classify::Classifier small(grey, 5), large(colour, 5);
  Tensors tensors;
  for (const auto& item : small->named_parameters()) {
    tensors.emplace(item.key(), item.value().detach());
  }
  import_weights(*large, tensors, WeightsUse::inference, "w.pth");
  const at::NoGradGuard no_grad;
  const at::Tensor images = at::randn({2, 1, 16, 16});
  EXPECT_TRUE(at::allclose(small->forward(images), large->forward(images.expand({2, 3, 16, 16})),
                           1e-4, 1e-5));
}

TEST(ImportWeights, AHeadOfOtherClassesIsDroppedForTrainingAndRefusedForUse) {
  classify::Classifier model(deit_config(), 3);
  const at::Tensor before = model->head->weight.detach().clone();
  const KeyDiff diff = import_weights(*model, weights_of("deit"), WeightsUse::training, "w.pth");
  EXPECT_TRUE(model->head->weight.equal(before));
  EXPECT_EQ(diff.dropped,
            (std::vector<std::string>{"head.bias [5] (the model's is [3])",
                                      "head.weight [5, 16] (the model's is [3, 16])"}));
  EXPECT_TRUE(diff.missing.empty());
  EXPECT_EQ(diff.taken, static_cast<int64_t>(weights_of("deit").size()) - 2);
  EXPECT_SAYS(refusal(deit_config(), 3, weights_of("deit"), WeightsUse::inference),
              "head.bias is [5], the model of its configuration expects [3]");
}

TEST(ImportWeights, WhatIsMissingOrUnexpectedIsListedForTrainingAndRefusedForUse) {
  Tensors tensors = weights_of("deit");
  tensors.erase("blocks.1.norm2.bias");
  const std::string missing = refusal(deit_config(), 5, tensors, WeightsUse::inference);
  EXPECT_SAYS(missing, "w.pth");
  EXPECT_SAYS(missing, "1 tensors that are missing there: blocks.1.norm2.bias");
  tensors.emplace("fc_norm.weight", at::ones({16}));
  classify::Classifier model(deit_config(), 5);
  const KeyDiff diff = import_weights(*model, tensors, WeightsUse::training, "w.pth");
  EXPECT_EQ(diff.missing, std::vector<std::string>{"blocks.1.norm2.bias"});
  EXPECT_EQ(diff.unexpected, std::vector<std::string>{"fc_norm.weight [16]"});
  tensors = weights_of("deit");
  tensors.emplace("fc_norm.weight", at::ones({16}));
  EXPECT_SAYS(refusal(deit_config(), 5, tensors, WeightsUse::inference),
              "unknown to the model of the configuration: fc_norm.weight [16]");
}

TEST(ImportWeights, AnotherShapeIsRefusedAndChangesNothing) {
  Tensors tensors = weights_of("deit");
  tensors["norm.weight"] = at::ones({17});
  classify::Classifier model(deit_config(), 5);
  const at::Tensor before = model->named_parameters()["cls_token"].detach().clone();
  const std::string message =
      message_of<Error>([&] { import_weights(*model, tensors, WeightsUse::training, "w.pth"); });
  EXPECT_SAYS(message, "tensor norm.weight is [17], the model of its configuration expects [16]");
  EXPECT_TRUE(model->named_parameters()["cls_token"].equal(before));
  const std::vector<std::vector<int64_t>> shapes = {{1, 17, 8}, {17, 16}, {1, 15, 16}, {1, 0, 16}};
  for (const std::vector<int64_t>& shape : shapes) {
    tensors = weights_of("deit");
    tensors["pos_embed"] = at::ones(shape);
    EXPECT_SAYS(refusal(deit_config(), 5, tensors, WeightsUse::training), "tensor pos_embed is [");
  }
}

TEST(ImportWeights, WeightsOfNothingThatIsKnownAreRefused) {
  EXPECT_SAYS(refusal(deit_config(), 5, {{"conv1.weight", at::ones({2})}}, WeightsUse::training),
              "none of its 1 tensors has the name of one of the model");
}

// timm's deit_tiny_distilled_patch16_224, with values that tell the rows of its positions.
Tensors distilled_deit_tiny() {
  Tensors tensors;
  for (const auto& entry :
       nlohmann::json::parse(golden().metadata.at("deit_tiny_distilled_patch16_224"))) {
    tensors.emplace(entry[0], at::zeros(entry[1].get<std::vector<int64_t>>()));
  }
  tensors.at("pos_embed").add_(at::arange(198).view({1, 198, 1}));
  return tensors;
}

TEST(ImportWeights, ADistilledDeitIsABeginningForTrainingOnly) {
  classify::RunConfig run;
  classify::read_run_config(COMBA_SOURCE_DIR "/configs/imagenet/deit_t.toml", {}, run);
  classify::Classifier model(run.model, 1000);
  const KeyDiff diff = import_weights(*model, distilled_deit_tiny(), WeightsUse::training, "w.pth");
  EXPECT_EQ(diff.changed, std::vector<std::string>{"pos_embed [1, 198, 192] -> [1, 197, 192]"});
  EXPECT_EQ(diff.dropped,
            (std::vector<std::string>{"dist_token [1, 1, 192]", "head_dist.bias [1000]",
                                      "head_dist.weight [1000, 192]"}));
  EXPECT_TRUE(diff.missing.empty() && diff.unexpected.empty());
  const at::Tensor rows = model->named_parameters()["pos_embed"].detach().select(2, 0).flatten();
  EXPECT_EQ(rows[0].item<float>(), 0.0F);
  EXPECT_TRUE(rows.slice(0, 1).equal(at::arange(2, 198).to(at::kFloat)));
  EXPECT_SAYS(refusal(run.model, 1000, distilled_deit_tiny(), WeightsUse::inference),
              "a distilled DeiT");
}

TEST(ImportWeights, LayerScaleTakesBothNames) {
  Tensors tensors = weights_of("deit3"), renamed;
  for (const auto& [name, tensor] : tensors) {
    std::string other = name;
    for (const auto& [from, to] : {std::pair("ls1.gamma", "gamma_1"), {"ls2.gamma", "gamma_2"}}) {
      if (name.ends_with(from)) {
        other = name.substr(0, name.size() - 9) + to;
      }
    }
    renamed.emplace(other, tensor);
  }
  classify::Classifier one(deit_config(), 5), two(deit_config(), 5);
  import_weights(*one, tensors, WeightsUse::inference, "w.pth");
  import_weights(*two, renamed, WeightsUse::inference, "w.pth");
  for (const auto& item : one->named_parameters()) {
    EXPECT_TRUE(item.value().equal(two->named_parameters()[item.key()])) << item.key();
  }
  tensors["blocks.0.ls1.gamma"] = at::ones({7});
  EXPECT_SAYS(refusal(deit_config(), 5, tensors, WeightsUse::inference), "blocks.0.ls1.gamma");
}

// What a language model of fla's Comba layers is made of (fla/models/comba): width 16, one head, one layer's names by hand.
Tensors fla_language_model() {
  Tensors tensors = {{"model.embeddings.weight", at::randn({50, 16})},
                     {"model.norm.weight", at::randn({16})},
                     {"lm_head.weight", at::randn({50, 16})}};
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    for (const char* name : {"q_proj", "k_proj", "v_proj", "g_proj", "o_proj"}) {
      tensors.emplace(fmt::format("{}attn.{}.weight", layer, name), at::randn({16, 16}));
    }
    for (const char* name : {"q_conv1d", "k_conv1d", "v_conv1d"}) {
      tensors.emplace(fmt::format("{}attn.{}.weight", layer, name), at::randn({16, 1, 4}));
    }
    for (const char* name : {"a_proj", "b_proj"}) {
      tensors.emplace(fmt::format("{}attn.{}.weight", layer, name), at::randn({1, 16}));
    }
    for (const char* name : {"decay", "D", "A_log", "dt_bias"}) {
      tensors.emplace(fmt::format("{}attn.{}", layer, name), at::randn({1}));
    }
    for (const char* name : {"attn_norm", "attn.o_norm", "mlp_norm"}) {
      tensors.emplace(fmt::format("{}{}.weight", layer, name), at::randn({16}));
    }
    for (const char* name : {"gate_proj", "up_proj", "down_proj"}) {
      tensors.emplace(fmt::format("{}mlp.{}.weight", layer, name), at::randn({16, 16}));
    }
  }
  return tensors;
}

TEST(ImportWeights, FlaCombaLayersBeginBothDirectionsOfOurs) {
  const Tensors theirs = fla_language_model();
  classify::Classifier model(comba_config(), 5);
  const KeyDiff diff = import_weights(*model, theirs, WeightsUse::training, "w.safetensors");
  const auto ours = model->named_parameters();
  const std::map<std::string, std::string> pairs = {
      {"blocks.1.mixer.q_proj.weight", "model.layers.1.attn.q_proj.weight"},
      {"blocks.0.mixer.g_proj.weight", "model.layers.0.attn.g_proj.weight"},
      {"blocks.1.mixer.D", "model.layers.1.attn.D"},
      {"blocks.1.mixer.D_b", "model.layers.1.attn.D"},
      {"blocks.1.mixer.k_conv1d_b.weight", "model.layers.1.attn.k_conv1d.weight"},
      {"blocks.0.mixer.a_proj_b.weight", "model.layers.0.attn.a_proj.weight"},
      {"blocks.0.mixer.o_norm.weight", "model.layers.0.attn.o_norm.weight"},
      {"blocks.0.norm1.weight", "model.layers.0.attn_norm.weight"},
      {"blocks.1.norm2.weight", "model.layers.1.mlp_norm.weight"},
      {"norm.weight", "model.norm.weight"}};
  for (const auto& [name, source] : pairs) {
    EXPECT_TRUE(ours[name].equal(theirs.at(source))) << name;
  }
  EXPECT_EQ(diff.unexpected.size(), 2U + 2 * 3) << "embeddings, lm_head, gated MLPs";
  for (const std::string& name : diff.missing) {
    EXPECT_TRUE(name.find(".mlp.") != std::string::npos || name.starts_with("patch_embed.") ||
                name.starts_with("head."))
        << name;
  }
  EXPECT_SAYS(refusal(comba_config(), 5, theirs, WeightsUse::inference), "fla's Comba layers");
}

TEST(ImportWeights, TrainingBeginsWithTheWeightsThatTheConfigurationNames) {
  const TemporaryFolder folder;
  const Tensors tensors = weights_of("deit");
  const std::string path = (folder.path() / "timm.safetensors").string();
  save_safetensors(path, NamedTensors(tensors.begin(), tensors.end()), {{"format", "pt"}});
  const char* text = R"(
[model]
image_size = 16
patch_size = 4
width = 16
depth = 2
head_dim = 16
mixer = "softmax"
norm = "layer"
pool = "cls"
position = "learned"
qkv_bias = true
mlp_bias = true
classes = 3
init = "timm.safetensors"
[data]
train = "synthetic"
)";
  classify::RunConfig config;
  classify::read_run_config_text(text, "c.toml", folder.path(), {}, config);
  classify::ClassifyTask task(config, at::kCPU);
  const auto ours = task.model().named_parameters();
  EXPECT_TRUE(ours["blocks.1.attn.qkv.weight"].equal(tensors.at("blocks.1.attn.qkv.weight")));
  EXPECT_EQ(ours["head.weight"].size(0), 3);
  EXPECT_EQ(classify::make_metadata(config, {}).at("comba.config").find(path), std::string::npos);
}

}  // namespace
}  // namespace comba::vision
