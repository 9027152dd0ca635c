// A file of weights, whoever wrote it: safetensors, or what torch.save writes (.pth, .pt, .bin). Told apart by their content.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include <ATen/core/Tensor.h>

namespace comba::vision {

struct WeightsFile {
  std::map<std::string, at::Tensor> tensors;    // on the CPU
  std::map<std::string, std::string> metadata;  // of safetensors
};

// `weights`: raw, ema or auto; which of the weights in an archive of torch.save, see torch_archive.h. What wrappers put in front of
// names, "module." (data parallel, averages) and "_orig_mod." (torch.compile), is taken off. Throws Error naming the path.
WeightsFile load_weights_file(const std::filesystem::path& path, const std::string& weights);

}  // namespace comba::vision
