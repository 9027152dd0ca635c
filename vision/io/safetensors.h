// The safetensors format (huggingface/safetensors at 24b0b28): u64 header size, JSON header, tensor bytes.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::vision {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

struct SafetensorsFile {
  std::map<std::string, at::Tensor> tensors;  // on the CPU, own memory
  std::map<std::string, std::string> metadata;
};

// Whole or absent (vision/base/files.h). Tensors may be on any device and strided; they are written
// contiguous, little-endian, in the order of the reference writer (dtype size descending, then name).
void save_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                      const std::map<std::string, std::string>& metadata = {});

// Throws Error naming path, tensor and the violated rule; never reads outside the file or trusts a size
// before it is checked.
SafetensorsFile load_safetensors(const std::filesystem::path& path);

}  // namespace comba::vision
