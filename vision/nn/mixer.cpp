#include "vision/nn/mixer.h"

#include "vision/base/error.h"
#include "vision/nn/comba_mixer.h"
#include "vision/nn/softmax_mixer.h"

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

std::shared_ptr<Mixer> make_mixer(const std::string& name, const BackboneConfig& config) {
  if (name == "comba") {
    return std::make_shared<CombaMixer>(config, config.form);
  }
  if (name == "gated_delta") {
    return std::make_shared<CombaMixer>(config, "gated_delta");
  }
  if (name == "softmax") {
    return std::make_shared<SoftmaxMixer>(config);
  }
  throw UsageError(
      fmt::format("model.mixer: expected comba, gated_delta or softmax, got \"{}\"", name));
}

}  // namespace comba::vision
