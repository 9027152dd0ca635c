#include "vision/engine/weights.h"

#include "vision/base/error.h"
#include "vision/base/log.h"
#include "vision/engine/checkpoint.h"

#include <ATen/core/grad_mode.h>

namespace comba::vision {
namespace fs = std::filesystem;
namespace {

// The weights file inside a checkpoint folder, after every file of it was verified.
fs::path file_in_checkpoint(const fs::path& folder, const std::string& weights) {
  const CheckpointState state = verify_checkpoint(folder);
  const std::string which = weights == "auto" ? state.best_weights : weights;
  const fs::path file = folder / (which == "ema" ? "ema.safetensors" : "model.safetensors");
  COMBA_CHECK(fs::exists(file), "loading {}: it holds no averaged weights; use --weights raw",
              folder.string());
  return file;
}

fs::path file_in_run(const fs::path& run, const std::string& weights) {
  for (const char* name : {"best", "last"}) {
    const fs::path folder = run / "checkpoints" / name;
    if (!fs::exists(folder / "state.json")) {
      continue;
    }
    try {
      return file_in_checkpoint(folder, weights);
    } catch (const Error& error) {
      log::warning("{}; trying another checkpoint of {}", error.what(), run.string());
    }
  }
  throw Error(
      fmt::format("loading {}: it has no usable checkpoint (checkpoints/best or checkpoints/last)",
                  run.string()));
}

}  // namespace

fs::path find_weights(const fs::path& path, const std::string& weights) {
  if (!fs::exists(path)) {
    throw UsageError(
        fmt::format("loading weights: {} does not exist; give a run folder, a checkpoint folder or "
                    "a file (.safetensors, or .pth of torch.save)",
                    path.string()));
  }
  if (!fs::is_directory(path)) {
    return path;
  }
  if (fs::exists(path / "state.json")) {
    return file_in_checkpoint(path, weights);
  }
  if (fs::is_directory(path / "checkpoints")) {
    return file_in_run(path, weights);
  }
  throw UsageError(
      fmt::format("loading weights: {} is neither a run folder (it has no checkpoints/) nor a "
                  "checkpoint folder (it has no state.json)",
                  path.string()));
}

void load_weights(torch::nn::Module& model, const std::map<std::string, at::Tensor>& tensors,
                  const fs::path& path) {
  const at::NoGradGuard no_grad;
  size_t used = 0;
  const auto load = [&](const std::string& name, const at::Tensor& target) {
    const auto found = tensors.find(name);
    COMBA_CHECK(found != tensors.end(), "loading {}: tensor {} is missing", path.string(), name);
    COMBA_CHECK(
        found->second.sizes() == target.sizes(),
        "loading {}: tensor {} has {} elements in {} dimensions, the model of its configuration "
        "expects {} in {}",
        path.string(), name, found->second.numel(), found->second.dim(), target.numel(),
        target.dim());
    target.copy_(found->second);
    ++used;
  };
  for (const auto& item : model.named_parameters()) {
    load(item.key(), item.value());
  }
  for (const auto& item : model.named_buffers()) {
    load(item.key(), item.value());
  }
  if (used != tensors.size()) {
    for (const auto& [name, tensor] : tensors) {
      const bool known =
          model.named_parameters().contains(name) || model.named_buffers().contains(name);
      COMBA_CHECK(known, "loading {}: tensor {} is unknown to the model of its configuration",
                  path.string(), name);
    }
  }
}

}  // namespace comba::vision
