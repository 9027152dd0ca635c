// Our half of tests/python/safetensors_interop.py, which sets COMBA_INTEROP_FOLDER.
#include "vision/io/safetensors.h"

#include <cstdlib>
#include <filesystem>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

namespace comba::vision {
namespace {

TEST(SafetensorsInterop, ReadsWhatPythonWroteAndWritesItBack) {
  const char* folder = std::getenv("COMBA_INTEROP_FOLDER");
  if (folder == nullptr) {
    GTEST_SKIP() << "run by tests/python/safetensors_interop.py";
  }
  const std::filesystem::path root = folder;
  const SafetensorsFile file = load_safetensors(root / "python.safetensors");
  EXPECT_EQ(file.metadata.at("written by"), "python \u00e9");
  EXPECT_TRUE(at::equal(file.tensors.at("f32"), at::arange(12, at::kFloat).reshape({3, 4}) / 8));
  EXPECT_TRUE(at::equal(file.tensors.at("i64"), at::arange(5) - 2));
  EXPECT_TRUE(at::equal(file.tensors.at("bf16"), at::full({2, 1, 2}, 1.5, at::kBFloat16)));
  NamedTensors tensors(file.tensors.begin(), file.tensors.end());
  save_safetensors(root / "comba.safetensors", tensors, file.metadata);
}

}  // namespace
}  // namespace comba::vision
