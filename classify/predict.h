// Predictions for single images.
#pragma once

#include "classify/bundle.h"
#include "classify/evaluate.h"
#include "datasets/image.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::classify {

// Files named by the arguments: a file as it is, the images below a folder (sorted by path), the matches of
// a glob pattern. An argument that names nothing becomes an entry of `missing`.
struct Inputs {
  std::vector<std::filesystem::path> files;
  std::vector<std::string> missing;
};
Inputs collect_inputs(const std::vector<std::string>& arguments);

// Reads one image and brings it to the model's size exactly as evaluation does. Throws Error naming the file.
datasets::Image read_input(const std::filesystem::path& path, const RunConfig& config);

class Predictor {
 public:
  Predictor(Bundle bundle, const c10::Device& device);
  // images as read_input() gives them -> logits [N, classes] fp32 on the CPU
  at::Tensor logits(const std::vector<datasets::Image>& images);
  // logits: [classes] -> the k most probable classes, best first
  std::vector<std::pair<std::string, double>> top(const at::Tensor& logits, int64_t k) const;
  const Bundle& bundle() const { return bundle_; }

 private:
  Bundle bundle_;
  c10::Device device_;
  Normaliser normalise_;
};

}  // namespace comba::classify
