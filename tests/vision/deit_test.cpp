// Weights by timm's names give timm's logits: tests/golden/make_deit_tiny.py holds the other half of this test.
#include "classify/bundle.h"
#include "tests/base/temporary_folder.h"
#include "vision/io/safetensors.h"

#include <cmath>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <nlohmann/json.hpp>

namespace comba::vision {
namespace {

// The numbers of make_deit_tiny.py's uniform(), in [-1, 1).
at::Tensor uniform(const std::string& name, at::IntArrayRef shape) {
  uint32_t seed = 2166136261u;
  for (const char c : name) {
    seed = (seed ^ static_cast<uint8_t>(c)) * 16777619u;
  }
  const at::Tensor values = at::empty(shape, at::kDouble);
  double* out = values.mutable_data_ptr<double>();
  for (int64_t i = 0; i < values.numel(); ++i) {
    uint32_t x = static_cast<uint32_t>(i) * 2654435761u + seed;
    x ^= x >> 16;
    x *= 0x85EBCA6Bu;
    x ^= x >> 13;
    x *= 0xC2B2AE35u;
    x ^= x >> 16;
    out[i] = x / 2147483648.0 - 1.0;
  }
  return values;
}

at::Tensor weight(const std::string& name, at::IntArrayRef shape) {
  const at::Tensor values = uniform(name, shape);
  if (shape.size() == 1) {
    return (values * 0.1 + (name.ends_with("weight") ? 1.0 : 0.0)).to(at::kFloat);
  }
  return (values * 0.08).to(at::kFloat);
}

TEST(Deit, TimmWeightsGiveTimmLogits) {
  const testing_tools::TemporaryFolder folder;
  const std::string source = COMBA_SOURCE_DIR;
  const SafetensorsFile golden = load_safetensors(source + "/tests/golden/deit_tiny.safetensors");
  NamedTensors weights;
  for (const auto& entry : nlohmann::json::parse(golden.metadata.at("parameters"))) {
    const auto name = entry[0].get<std::string>();
    weights.emplace_back(name, weight(name, entry[1].get<std::vector<int64_t>>()));
  }
  save_safetensors(folder.path() / "timm.safetensors", weights, {{"format", "pt"}});

  classify::Bundle bundle =
      classify::load_bundle(folder.path() / "timm.safetensors", "auto", at::kCPU,
                            source + "/configs/imagenet/deit_t.toml");
  const at::NoGradGuard no_grad;
  const at::Tensor images = (uniform("images", {4, 3, 224, 224}) * 2.0).to(at::kFloat);
  const at::Tensor difference = bundle.model(images) - golden.tensors.at("logits");
  EXPECT_LT(difference.abs().max().item<double>(), 1e-4);
}

}  // namespace
}  // namespace comba::vision
