#include "classify/recall/model.h"

#include "kernels/block/causal_conv.h"
#include "vision/nn/layers.h"
#include "vision/nn/short_conv.h"
#include "vision/token_sequence.h"

#include <vector>

#include <ATen/ops/embedding.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/zeros.h>
#include <torch/nn/modules/container/modulelist.h>

namespace comba::recall {
namespace {

constexpr double kDeviation = 0.02;  // of embeddings, as everywhere in vision/

// tokens [B, T, d] -> those asked for [B, Q, d]
torch::Tensor tokens_at(const torch::Tensor& tokens, const torch::Tensor& asked) {
  return tokens.gather(1, asked.unsqueeze(2).expand({-1, -1, tokens.size(2)}));
}

class SequenceModel final : public RecallModel {
 public:
  explicit SequenceModel(const RecallConfig& config)
      : values_(config.data.vocabulary / 2),
        symbols_(random_parameter("symbols", {config.data.vocabulary, config.model.width})) {
    if (config.model.position == "learned") {
      places_ = random_parameter("places", {config.data.length, config.model.width});
    }
    if (config.token_conv > 0) {
      conv_ =
          register_module("token_conv", vision::ShortConv(config.model.width, config.token_conv));
    }
    torch::nn::ModuleList list;
    for (int64_t i = 0; i < config.model.depth; ++i) {
      blocks_.emplace_back(config.model, config.model.mixer_of(i), /*drop_path_rate=*/0.0);
      list->push_back(blocks_.back());
    }
    register_module("blocks", list);
    norm_ = register_module(
        "norm", vision::Norm(config.model.norm, config.model.width, config.model.norm_eps));
  }

  torch::Tensor forward(const torch::Tensor& input, const torch::Tensor& asked) override {
    torch::Tensor x = at::embedding(symbols_, input);  // [B, T, d]
    if (places_.defined()) {
      x = x + places_;
    }
    if (!conv_.is_empty()) {
      x = x + kernels::causal_conv(x, conv_->weight.squeeze(1));
    }
    x = vision::run_blocks(blocks_, norm_, x, /*prefix=*/0, /*again=*/false);
    return at::linear(tokens_at(x, asked), symbols_.narrow(0, values_, values_));
  }

 private:
  torch::Tensor random_parameter(const char* name, at::IntArrayRef shape) {
    const torch::Tensor parameter = register_parameter(name, at::zeros(shape));
    vision::truncated_normal_(parameter, kDeviation);
    return parameter;
  }

  int64_t values_;
  torch::Tensor symbols_;  // [vocabulary, d]
  torch::Tensor places_;   // [length, d] or undefined
  vision::ShortConv conv_{nullptr};
  std::vector<vision::Block> blocks_;
  vision::Norm norm_{nullptr};
};

class PictureModel final : public RecallModel {
 public:
  explicit PictureModel(const RecallConfig& config)
      : backbone_(register_module("backbone", vision::Backbone(config.model))),
        head_(register_module(
            "head", vision::make_linear(config.model.width, config.data.vocabulary / 2, true))) {}

  torch::Tensor forward(const torch::Tensor& input, const torch::Tensor& asked) override {
    return head_(tokens_at(backbone_->forward_tokens(input), asked));
  }

 private:
  vision::Backbone backbone_;
  torch::nn::Linear head_;
};

}  // namespace

std::shared_ptr<RecallModel> make_model(const RecallConfig& config) {
  if (config.data.kind == "picture") {
    return std::make_shared<PictureModel>(config);
  }
  return std::make_shared<SequenceModel>(config);
}

}  // namespace comba::recall
