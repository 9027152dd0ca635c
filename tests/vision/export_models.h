// Small models of every kind that can be exported.
#pragma once

#include "classify/classifier.h"
#include "vision/io/recording.h"

#include <functional>
#include <string>
#include <vector>

namespace comba::vision::test {

struct ExportCase {
  std::string name;
  std::function<void(BackboneConfig&)> change;
};

// Every option of every mixer, and what surrounds them.
inline std::vector<ExportCase> export_cases() {
  using C = BackboneConfig;
  return {
      {"comba", [](C&) {}},
      {"iplr", [](C& c) { c.form = "iplr"; }},
      {"gated_delta", [](C& c) { c.mixer = "gated_delta"; }},
      {"delta", [](C& c) { c.mixer = "delta"; }},
      {"retention", [](C& c) { c.mixer = "retention"; }},
      {"gla", [](C& c) { c.mixer = "gla"; }},
      {"concat", [](C& c) { c.merge = "concat"; }},
      {"inner_width", [](C& c) { c.inner_width = 48; }},
      {"no_mlp", [](C& c) { c.mlp_ratio = 0; }},
      {"middle_class_token",
       [](C& c) {
         c.pool = "middle_cls";
         c.position = "learned";
       }},
      {"agent",
       [](C& c) {
         c.mixer = "agent";
         c.agents = 9;
         c.norm = "layer";
         c.pool = "cls";
         c.position = "learned";
         c.qkv_bias = c.mlp_bias = true;
       }},
      {"agent_mean",
       [](C& c) {
         c.mixer = "agent";
         c.agents = 4;
       }},
      {"agent_uneven",  // 3 x 3 agents of 10 x 10 patches
       [](C& c) {
         c.mixer = "agent";
         c.agents = 9;
         c.image_size = 40;
       }},
      {"mamba",
       [](C& c) {
         c.mixer = "mamba";
         c.mlp_ratio = 0;
         c.pool = "middle_cls";
         c.position = "learned";
       }},
      {"mamba_mean", [](C& c) { c.mixer = "mamba"; }},
      {"one_direction", [](C& c) { c.directions = "forward"; }},
      {"sum", [](C& c) { c.merge = "sum"; }},
      {"unfused", [](C& c) { c.fused_mixer = false; }},
      {"shared_conv", [](C& c) { c.conv = "shared"; }},
      {"no_conv", [](C& c) { c.conv = "none"; }},
      {"nine_taps", [](C& c) { c.conv_size = 9; }},
      {"no_gate", [](C& c) { c.gate_rank = 0; }},
      {"full_gate", [](C& c) { c.gate_rank = c.width; }},
      {"no_correction", [](C& c) { c.output_correction = false; }},
      {"no_feedback_scale", [](C& c) { c.feedback_scale = false; }},
      {"no_qk_norm", [](C& c) { c.qk_norm = false; }},
      {"class_token_positions",
       [](C& c) {
         c.pool = "cls";
         c.position = "learned";
       }},
      {"deit",
       [](C& c) {
         c.mixer = "softmax";
         c.norm = "layer";
         c.pool = "cls";
         c.position = "learned";
         c.qkv_bias = c.mlp_bias = true;
       }},
      {"hybrid", [](C& c) { c.mixers = {"comba", "softmax"}; }},
      {"grey", [](C& c) { c.in_channels = 1; }},
      {"ragged_chunks", [](C& c) { c.image_size = 52; }},
      {"one_chunk", [](C& c) { c.image_size = 20; }},
  };
}

// With weights far larger than a fresh model's, so that logits are of the size of trained ones.
inline classify::Classifier make_export_model(const ExportCase& export_case) {
  BackboneConfig config;
  config.image_size = 48;
  config.patch_size = 4;
  config.width = 32;
  config.depth = 2;
  config.head_dim = 16;
  export_case.change(config);
  at::manual_seed(5);
  classify::Classifier model(config, /*classes=*/7);
  const at::NoGradGuard no_grad;
  for (auto& item : model->named_parameters()) {
    if (item.value().dim() > 1) {
      item.value().normal_(0, item.key() == "head.weight" ? 0.5 : 0.2);
    }
  }
  model->eval();
  return model;
}

}  // namespace comba::vision::test
