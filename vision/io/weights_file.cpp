#include "vision/io/weights_file.h"

#include "vision/base/error.h"
#include "vision/io/safetensors.h"
#include "vision/io/torch_archive.h"

#include <string_view>
#include <utility>

namespace comba::vision {
namespace {

std::string without_wrappers(std::string_view name) {
  for (bool again = true; again;) {
    again = false;
    for (const std::string_view wrapper : {"module.", "_orig_mod."}) {
      if (name.starts_with(wrapper)) {
        name.remove_prefix(wrapper.size());
        again = true;
      }
    }
  }
  return std::string(name);
}

}  // namespace

WeightsFile load_weights_file(const std::filesystem::path& path, const std::string& weights) {
  WeightsFile file;
  std::map<std::string, at::Tensor> wrapped;
  if (is_torch_file(path)) {
    wrapped = load_torch_archive(path, weights);
  } else {
    SafetensorsFile safetensors = load_safetensors(path);
    wrapped = std::move(safetensors.tensors);
    file.metadata = std::move(safetensors.metadata);
  }
  for (auto& [name, tensor] : wrapped) {
    const bool fresh = file.tensors.emplace(without_wrappers(name), std::move(tensor)).second;
    COMBA_CHECK(fresh, "reading {}: tensor {}: there is another of this name without \"module.\"",
                path.string(), name);
  }
  return file;
}

}  // namespace comba::vision
