#include "classify/predict.h"

#include "datasets/decode.h"
#include "datasets/transform.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/engine/precision.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/topk.h>
#include <glob.h>

namespace comba::classify {
namespace fs = std::filesystem;
namespace {

bool looks_like_image(const fs::path& path) {
  static constexpr std::array<std::string_view, 10> kExtensions = {
      ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jpe"};
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::find(kExtensions.begin(), kExtensions.end(), extension) != kExtensions.end();
}

std::vector<fs::path> images_below(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const auto& entry :
       fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied)) {
    if (entry.is_regular_file() && looks_like_image(entry.path())) {
      found.push_back(entry.path());
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<fs::path> matches_of(const std::string& pattern) {
  std::vector<fs::path> found;
  glob_t matches{};
  if (glob(pattern.c_str(), 0, nullptr, &matches) == 0) {
    for (size_t i = 0; i < matches.gl_pathc; ++i) {
      found.emplace_back(matches.gl_pathv[i]);
    }
  }
  globfree(&matches);
  return found;
}

}  // namespace

Inputs collect_inputs(const std::vector<std::string>& arguments) {
  Inputs inputs;
  for (const std::string& argument : arguments) {
    std::vector<fs::path> roots = {argument};
    std::error_code ignored;
    if (!fs::exists(argument, ignored)) {
      roots = matches_of(argument);
    }
    std::vector<fs::path> found;
    for (const fs::path& root : roots) {
      if (fs::is_directory(root)) {
        const std::vector<fs::path> below = images_below(root);
        found.insert(found.end(), below.begin(), below.end());
      } else {
        found.push_back(root);
      }
    }
    if (found.empty()) {
      inputs.missing.push_back(argument);
    }
    inputs.files.insert(inputs.files.end(), found.begin(), found.end());
  }
  return inputs;
}

datasets::Image read_input(const fs::path& path, const RunConfig& config) {
  const MappedFile file(path);
  const datasets::Image image = datasets::decode_image(
      file.bytes(), static_cast<int>(config.model.in_channels), path.string());
  return datasets::transform_for_evaluation(image, config.transform);
}

Predictor::Predictor(Bundle bundle, const c10::Device& device)
    : bundle_(std::move(bundle)),
      device_(device),
      normalise_(bundle_.config.data.mean, bundle_.config.data.std, device) {}

at::Tensor Predictor::logits(const std::vector<datasets::Image>& images) {
  const at::NoGradGuard no_grad;
  datasets::Batch batch;
  batch.size = static_cast<int64_t>(images.size());
  for (const datasets::Image& image : images) {
    batch.pixels.insert(batch.pixels.end(), image.pixels.begin(), image.pixels.end());
  }
  const vision::BackboneConfig& model = bundle_.config.model;
  const at::Tensor input = normalise_(pixels_of(batch, model.image_size, model.in_channels));
  const vision::AutocastScope autocast(
      device_.is_cuda() ? vision::choose_precision(bundle_.config.train.precision, device_)
                        : vision::Precision::fp32);
  return bundle_.model->forward(input).to(at::kFloat).cpu();
}

std::vector<std::pair<std::string, double>> Predictor::top(const at::Tensor& logits,
                                                           int64_t k) const {
  const auto [values, classes] =
      at::topk(logits.to(at::kDouble).softmax(0), std::min(k, logits.size(0)), 0);
  std::vector<std::pair<std::string, double>> best;
  for (int64_t i = 0; i < values.size(0); ++i) {
    best.emplace_back(bundle_.class_names[static_cast<size_t>(classes[i].item<int64_t>())],
                      values[i].item<double>());
  }
  return best;
}

}  // namespace comba::classify
