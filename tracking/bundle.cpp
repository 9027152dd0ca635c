#include "tracking/bundle.h"

#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/engine/weights.h"
#include "vision/io/weights_file.h"

namespace comba::tracking {
namespace fs = std::filesystem;
namespace {

constexpr const char* kConfigKey = "comba.config";
constexpr const char* kBackbone = "backbone.";

std::string hash_of_file(const fs::path& path) {
  const std::string bytes = read_file(path);
  return fmt::format("{:08x}",
                     crc32c({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}));
}

}  // namespace

std::map<std::string, std::string> make_metadata(const TrackConfig& config) {
  TrackConfig portable = config;
  portable.data.train.clear();  // paths of the machine that trained it
  portable.data.eval.clear();
  portable.data.ratios.clear();
  portable.init.clear();
  return {{"format", "pt"}, {kConfigKey, dump(portable)}};
}

TrackerBundle load_tracker(const fs::path& path, const std::string& weights,
                           const c10::Device& device) {
  TrackerBundle bundle;
  bundle.weights = vision::find_weights(path, weights);
  const vision::WeightsFile file = vision::load_weights_file(bundle.weights, weights);
  const auto text = file.metadata.find(kConfigKey);
  const std::string origin = bundle.weights.string() + " (metadata)";
  COMBA_CHECK(text != file.metadata.end() && config_task(text->second, origin) == "track",
              "loading {}: these are not the weights of a tracker; expected those that comba train "
              "wrote for a configuration with task = \"track\"",
              bundle.weights.string());
  read_track_config_text(text->second, origin, bundle.weights.parent_path(), {}, bundle.config);
  bundle.hash = hash_of_file(bundle.weights);
  bundle.network = Network(bundle.config.network);
  vision::load_weights(*bundle.network, file.tensors, bundle.weights);
  bundle.network->to(device);
  bundle.network->eval();
  return bundle;
}

std::string weights_task(const fs::path& path) {
  const fs::path weights = vision::find_weights(path, "auto");
  const auto metadata = vision::load_weights_file(weights, "auto").metadata;
  const auto text = metadata.find(kConfigKey);
  return text == metadata.end() ? "" : config_task(text->second, weights.string());
}

vision::KeyDiff load_backbone(Network& network, const fs::path& path) {
  const fs::path weights = vision::find_weights(path, "auto");
  vision::WeightsFile file = vision::load_weights_file(weights, "auto");
  std::map<std::string, at::Tensor> of_backbone;
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with(kBackbone)) {
      of_backbone.emplace(name.substr(std::string(kBackbone).size()), tensor);
    }
  }
  return vision::import_weights(*network->backbone().ptr(),
                                of_backbone.empty() ? file.tensors : of_backbone,
                                vision::WeightsUse::training, weights);
}

}  // namespace comba::tracking
