#include "vision/nn/mixer.h"

#include "vision/base/error.h"
#include "vision/nn/comba_mixer.h"
#include "vision/nn/softmax_mixer.h"

namespace comba::vision {

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
