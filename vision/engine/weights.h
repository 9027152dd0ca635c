// Finding and loading the weights of a trained model.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

namespace comba::vision {

// The safetensors file of `path`: a run folder (its best checkpoint, or else its last), a checkpoint folder, or the file
// itself. `weights`: "raw", "ema", or "auto" (the ones the best metric belongs to). Checkpoints are verified first.
std::filesystem::path find_weights(const std::filesystem::path& path, const std::string& weights);

// Fills every parameter and buffer, by our names or Vision Mamba's. Throws Error naming the tensor that is missing, unknown or of another shape; `path` is
// for messages.
void load_weights(torch::nn::Module& model, const std::map<std::string, at::Tensor>& tensors,
                  const std::filesystem::path& path);

}  // namespace comba::vision
