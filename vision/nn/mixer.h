// Token mixers: one class behind one small interface; the config picks it by name.
#pragma once

#include "vision/backbone.h"
#include "vision/nn/prepared.h"

#include <memory>
#include <string>
#include <vector>

#include <torch/nn/module.h>

namespace comba::vision {

class Mixer : public torch::nn::Module {
 public:
  // x: [B, T, d] normalised tokens -> [B, T, d]. The first `prefix` tokens never read those behind them.
  virtual torch::Tensor forward(const torch::Tensor& x, int64_t prefix = 0) = 0;
  // For inference with tokens of `options`, with or without a prefix; the one here calls forward() in the mixer's own
  // precision.
  virtual std::unique_ptr<PreparedMixer> prepare(const at::TensorOptions& options, bool prefixed);
  // Name of the mixer in a block's parameters: timm calls softmax attention "attn".
  virtual std::string module_name() const { return "mixer"; }
};

// What model.mixer may say: comba (splr, iplr), gated_delta, delta, retention, gla (vision/nn/comba_mixer.h), softmax,
// agent, mamba.
const std::vector<std::string>& mixer_names();
std::shared_ptr<Mixer> make_mixer(const std::string& name, const BackboneConfig& config);

}  // namespace comba::vision
