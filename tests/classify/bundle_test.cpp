#include "classify/bundle.h"

#include "classify/predict.h"
#include "tests/classify/tiny.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/io/safetensors.h"

#include <cmath>
#include <filesystem>

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/serialization/pickle.h>
#include <unistd.h>

namespace comba::classify {
namespace {
namespace fs = std::filesystem;

class BundleTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() /
              fmt::format("comba_bundle_{}_{}", getpid(),
                          testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder_);
    at::manual_seed(1);
    model_ = Classifier(config_.model, 4);
    model_->eval();
  }
  void TearDown() override { fs::remove_all(folder_); }
  vision::NamedTensors weights() const {
    vision::NamedTensors tensors;
    for (const auto& item : model_->named_parameters()) {
      tensors.emplace_back(item.key(), item.value().detach());
    }
    for (const auto& item : model_->named_buffers()) {
      tensors.emplace_back(item.key(), item.value().detach());
    }
    return tensors;
  }
  std::string complaint(const fs::path& path) {
    try {
      load_bundle(path, "auto", at::kCPU);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  RunConfig config_ = tiny_config({"data.train=/somewhere/private", "data.mean=[0.1, 0.2, 0.3]"});
  fs::path folder_;
  Classifier model_{nullptr};
  const std::vector<std::string> names_ = {"ant", "bee", "cat \"x\"", "d\xC3\xB6g"};
};

TEST_F(BundleTest, ALoneFileGivesTheSameLogitsNamesAndNormalisation) {
  vision::save_safetensors(folder_ / "w.safetensors", weights(), make_metadata(config_, names_));
  Bundle bundle = load_bundle(folder_ / "w.safetensors", "auto", at::kCPU);
  EXPECT_EQ(bundle.class_names, names_);
  EXPECT_EQ(bundle.config.data.mean, (std::vector<double>{0.1, 0.2, 0.3}));
  EXPECT_EQ(bundle.config.model.width, 16);
  const at::NoGradGuard no_grad;
  const at::Tensor images = at::randn({2, 3, 8, 8});
  EXPECT_TRUE(bundle.model->forward(images).equal(model_->forward(images)));
}

TEST_F(BundleTest, MetadataHoldsNoPathOfTheTrainingMachine) {
  for (const auto& [key, value] : make_metadata(config_, names_)) {
    EXPECT_EQ(value.find("/somewhere/private"), std::string::npos) << key;
  }
}

TEST_F(BundleTest, ParametersCarryTimmLikeNames) {
  const auto parameters = model_->named_parameters();
  EXPECT_TRUE(parameters.contains("head.weight"));
  EXPECT_TRUE(parameters.contains("patch_embed.proj.weight"));
  EXPECT_TRUE(parameters.contains("blocks.0.norm1.weight"));
}

TEST_F(BundleTest, NamesAMissingAndAnUnknownTensor) {
  vision::NamedTensors tensors = weights();
  tensors.emplace_back("extra.weight", at::randn({2}));
  vision::save_safetensors(folder_ / "w.safetensors", tensors, make_metadata(config_, names_));
  EXPECT_NE(complaint(folder_ / "w.safetensors").find("extra.weight is unknown"),
            std::string::npos);
  tensors = weights();
  const std::string lost = tensors.front().first;
  tensors.erase(tensors.begin());
  vision::save_safetensors(folder_ / "w.safetensors", tensors, make_metadata(config_, names_));
  EXPECT_NE(complaint(folder_ / "w.safetensors").find(lost + " is missing"), std::string::npos);
}

TEST_F(BundleTest, SaysWhatAFileWithoutMetadataLacks) {
  vision::save_safetensors(folder_ / "w.safetensors", weights());
  EXPECT_NE(complaint(folder_ / "w.safetensors").find("comba.config"), std::string::npos);
}

TEST_F(BundleTest, AnArchiveOfTorchSaveWithAConfigurationGivesTheSameLogits) {
  c10::Dict<std::string, at::Tensor> state;
  for (const auto& [name, tensor] : weights()) {
    state.insert("module." + name, tensor);
  }
  const std::vector<char> bytes = torch::jit::pickle_save(state);
  write_file_atomic(folder_ / "w.pth", {bytes.data(), bytes.size()});
  write_file_atomic(folder_ / "c.toml", kTinyConfig);
  EXPECT_NE(complaint(folder_ / "w.pth").find("give --config FILE"), std::string::npos);

  Bundle bundle = load_bundle(folder_ / "w.pth", "auto", at::kCPU, folder_ / "c.toml");
  const at::NoGradGuard no_grad;
  const at::Tensor images = at::randn({2, 3, 8, 8});
  EXPECT_TRUE(bundle.model->forward(images).equal(model_->forward(images)));
  EXPECT_FALSE(bundle.classes_named);
  EXPECT_EQ(bundle.class_names[3], "class 3");
  EXPECT_EQ(make_metadata(bundle).at("comba.classes"), "[]");
  vision::save_safetensors(folder_ / "again.safetensors", weights(), make_metadata(bundle));
  EXPECT_FALSE(load_bundle(folder_ / "again.safetensors", "auto", at::kCPU).classes_named);
}

TEST_F(BundleTest, SaysWhatAPlainFolderAndAnAbsentPathLack) {
  EXPECT_NE(complaint(folder_).find("neither a run folder"), std::string::npos);
  EXPECT_NE(complaint(folder_ / "absent").find("does not exist"), std::string::npos);
}

TEST_F(BundleTest, TopClassesAreSortedProbabilitiesOfTheSoftmax) {
  vision::save_safetensors(folder_ / "w.safetensors", weights(), make_metadata(config_, names_));
  const Predictor predictor(load_bundle(folder_ / "w.safetensors", "auto", at::kCPU), at::kCPU);
  const auto top = predictor.top(at::tensor({0.0, std::log(3.0), std::log(4.0), -100.0}), 3);
  ASSERT_EQ(top.size(), 3U);
  EXPECT_EQ(top[0].first, "cat \"x\"");
  EXPECT_NEAR(top[0].second, 0.5, 1e-9);
  EXPECT_EQ(top[1].first, "bee");
  EXPECT_NEAR(top[1].second, 0.375, 1e-9);
}

}  // namespace
}  // namespace comba::classify
