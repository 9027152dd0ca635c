// Models of the recall tasks: tokens -> blocks of the configured mixer -> the value that each question asks for.
#pragma once

#include "classify/recall/config.h"

#include <memory>

#include <torch/nn/module.h>

namespace comba::recall {

class RecallModel : public torch::nn::Module {
 public:
  // input: Examples::input; asked: [B, Q] int64 -> logits [B, Q, vocabulary / 2] of the values
  virtual torch::Tensor forward(const torch::Tensor& input, const torch::Tensor& asked) = 0;
};

// Sequences: an embedding of each symbol (and of each place, if model.position = "learned"), to which a short convolution may be
// added, as Zoology puts one in front of softmax attention, which else finds neighbours slowly; blocks; norm. A value's logit is
// the product with its embedding. Pictures: the backbone of `config.model` and a linear head.
std::shared_ptr<RecallModel> make_model(const RecallConfig& config);

}  // namespace comba::recall
