#include "vision/nn/mixer.h"

#include "vision/base/error.h"
#include "vision/nn/agent_mixer.h"
#include "vision/nn/comba_mixer.h"
#include "vision/nn/mamba_mixer.h"
#include "vision/nn/softmax_mixer.h"

#include <algorithm>

#include <fmt/ranges.h>

namespace comba::vision {

namespace {

class PreparedByItself : public PreparedMixer {
 public:
  explicit PreparedByItself(std::shared_ptr<Mixer> mixer) : mixer_(std::move(mixer)) {}
  void add_to(at::Tensor& x, const at::Tensor& normalised, int64_t prefix) const override {
    x.add_(mixer_->forward(normalised.to(mixer_->parameters().front().scalar_type()), prefix));
  }

 private:
  std::shared_ptr<Mixer> mixer_;
};

}  // namespace

std::unique_ptr<PreparedMixer> Mixer::prepare(const at::TensorOptions&, bool) {
  return std::make_unique<PreparedByItself>(std::dynamic_pointer_cast<Mixer>(shared_from_this()));
}

const std::vector<std::string>& mixer_names() {
  static const std::vector<std::string> names = {"comba", "gated_delta", "delta", "retention",
                                                 "gla",   "softmax",     "agent", "mamba"};
  return names;
}

std::shared_ptr<Mixer> make_mixer(const std::string& name, const BackboneConfig& config) {
  if (name == "softmax") {
    return std::make_shared<SoftmaxMixer>(config);
  }
  if (name == "agent") {
    return std::make_shared<AgentMixer>(config);
  }
  if (name == "mamba") {
    return std::make_shared<MambaMixer>(config);
  }
  const auto& names = mixer_names();
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    throw UsageError(
        fmt::format("model.mixer: expected one of {}, got \"{}\"", fmt::join(names, ", "), name));
  }
  return std::make_shared<CombaMixer>(config, name == "comba" ? config.form : name);
}

}  // namespace comba::vision
