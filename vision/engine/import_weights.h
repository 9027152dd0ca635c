// Weights into a model that they were not made for: of other programs, of other sizes.
#pragma once

#include "vision/engine/key_map.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

namespace comba::vision {

// What became of the tensors, each a name with what there is to say about it.
struct KeyDiff {
  int64_t taken = 0;                    // as they are
  std::vector<std::string> changed;     // "pos_embed [1, 197, 192] -> [1, 577, 192]"
  std::vector<std::string> dropped;     // heads of other classes, what distillation left
  std::vector<std::string> missing;     // in the file; keeps its initial values
  std::vector<std::string> unexpected;  // in the file, unknown to the model
};

// Fills the model's parameters and buffers from `tensors`, whose names are mapped (key_map.h). Changed to fit:
//   pos_embed                 bicubic, antialiased, to the model's grid of patches; the class token's row is kept, or 0 if there is
//                             none, that of distillation dropped (as timm does)
//   patch_embed.proj.weight   to another number of channels: their sum, spread evenly; the same answer to grey images
//   head.*                    of other classes: dropped, in training alone
//   *_b of a second direction that is not there: the first one's, in training alone
// Throws Error naming tensors and shapes: any other shape; for inference also whatever is missing or unexpected; if nothing is taken.
// `path` is for messages. The model is unchanged then.
KeyDiff import_weights(torch::nn::Module& model, std::map<std::string, at::Tensor> tensors,
                       WeightsUse use, const std::filesystem::path& path);

// Logs the diff, as warnings where something of the model or of the file was left.
void log_key_diff(const KeyDiff& diff, const std::filesystem::path& path);

}  // namespace comba::vision
