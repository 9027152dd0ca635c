// TorchScript files: loaded by torch.jit.load in any Python or C++ with LibTorch, without this library.
#pragma once

#include "vision/io/recording.h"

#include <filesystem>
#include <map>
#include <string>

namespace comba::vision {

// Whole or absent. Each entry of `metadata` becomes an extra file of that name (torch.jit.load's _extra_files).
void save_torchscript(const std::filesystem::path& path, const Recording& recording,
                      const std::map<std::string, std::string>& metadata);

// What the file at `path` makes of these inputs, on the CPU.
Tensors run_torchscript(const std::filesystem::path& path, const Tensors& inputs);

}  // namespace comba::vision
