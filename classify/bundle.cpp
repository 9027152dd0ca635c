#include "classify/bundle.h"

#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/engine/import_weights.h"
#include "vision/engine/weights.h"
#include "vision/io/weights_file.h"

#include <nlohmann/json.hpp>

namespace comba::classify {
namespace fs = std::filesystem;
namespace {

constexpr const char* kConfigKey = "comba.config";
constexpr const char* kClassesKey = "comba.classes";

std::vector<std::string> parse_classes(const std::string& text, const fs::path& path) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  COMBA_CHECK(json.is_array(), "loading {}: its metadata {} is not a JSON list", path.string(),
              kClassesKey);
  std::vector<std::string> names;
  for (const auto& item : json) {
    COMBA_CHECK(item.is_string(),
                "loading {}: its metadata {} holds something that is not a string", path.string(),
                kClassesKey);
    names.push_back(item.get<std::string>());
  }
  return names;
}

}  // namespace

std::map<std::string, std::string> make_metadata(const RunConfig& config,
                                                 const std::vector<std::string>& class_names) {
  RunConfig portable = config;
  if (portable.data.train != "synthetic") {
    portable.data.train.clear();  // a path of the machine that trained it
  }
  if (portable.data.eval != "synthetic") {
    portable.data.eval.clear();
  }
  portable.init.clear();
  portable.distill.teacher.clear();
  portable.distill.config.clear();
  return {{"format", "pt"},
          {kConfigKey, dump(portable)},
          {kClassesKey, nlohmann::json(class_names).dump()}};
}

std::map<std::string, std::string> make_metadata(const Bundle& bundle) {
  return make_metadata(bundle.config,
                       bundle.classes_named ? bundle.class_names : std::vector<std::string>());
}

namespace {

// The model as the file's own header tells it.
void read_own_description(const vision::WeightsFile& file, Bundle& bundle) {
  const auto config = file.metadata.find(kConfigKey);
  const auto classes = file.metadata.find(kClassesKey);
  const std::string task =
      config == file.metadata.end() ? "" : config_task(config->second, bundle.weights.string());
  COMBA_CHECK(task.empty() || task == "classify",
              "loading {}: expected the weights of a classifier, these were trained for the task "
              "\"{}\"",
              bundle.weights.string(), task);
  COMBA_CHECK(config != file.metadata.end() && classes != file.metadata.end(),
              "loading {}: it carries no {} and {}, so the model is unknown; files written by "
              "comba train have both, for others give --config FILE",
              bundle.weights.string(), kConfigKey, kClassesKey);
  read_run_config_text(config->second, bundle.weights.string() + " (metadata)",
                       bundle.weights.parent_path(), {}, bundle.config);
  bundle.class_names = parse_classes(classes->second, bundle.weights);
}

// The model as a configuration beside the file tells it; the number of classes is that of the head.
void read_given_description(const fs::path& config, const vision::WeightsFile& file,
                            Bundle& bundle) {
  read_run_config(config, {}, bundle.config);
  const auto head = file.tensors.find("head.weight");
  COMBA_CHECK(head != file.tensors.end() && head->second.dim() == 2,
              "loading {}: expected a matrix head.weight, found none", bundle.weights.string());
  bundle.config.classes = head->second.size(0);
}

}  // namespace

Bundle load_bundle(const fs::path& path, const std::string& weights, const c10::Device& device,
                   const fs::path& config) {
  Bundle bundle;
  bundle.weights = vision::find_weights(path, weights);
  vision::WeightsFile file = vision::load_weights_file(bundle.weights, weights);
  if (config.empty()) {
    read_own_description(file, bundle);
  } else {
    read_given_description(config, file, bundle);
  }
  COMBA_CHECK(bundle.config.classes > 0 &&
                  static_cast<int64_t>(bundle.class_names.size()) <= bundle.config.classes,
              "loading {}: it names {} classes, its head has {}", bundle.weights.string(),
              bundle.class_names.size(), bundle.config.classes);
  bundle.classes_named = !bundle.class_names.empty();
  while (static_cast<int64_t>(bundle.class_names.size()) < bundle.config.classes) {
    bundle.class_names.push_back(fmt::format("class {}", bundle.class_names.size()));
  }
  // The paths are left out of the weights' header; the checkpoint's own configuration still has them.
  const fs::path full = bundle.weights.parent_path() / "config.toml";
  if (config.empty() && fs::exists(full)) {
    RunConfig beside;
    read_run_config(full, {}, beside);
    bundle.config.data.train = beside.data.train;
    bundle.config.data.eval = beside.data.eval;
  }
  bundle.model = Classifier(bundle.config.model, bundle.config.classes);
  if (config.empty()) {
    vision::load_weights(*bundle.model, file.tensors, bundle.weights);
  } else {
    vision::log_key_diff(vision::import_weights(*bundle.model, std::move(file.tensors),
                                                vision::WeightsUse::inference, bundle.weights),
                         bundle.weights);
  }
  bundle.model->to(device);
  bundle.model->eval();
  return bundle;
}

}  // namespace comba::classify
