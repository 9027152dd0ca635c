// A batch that is too large, and the one that the message names.
#include "tests/base/temporary_folder.h"
#include "vision/base/error.h"
#include "vision/engine/device_memory.h"
#include "vision/engine/out_of_memory.h"
#include "vision/engine/trainer.h"

#include <regex>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/randn.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <gtest/gtest.h>

namespace comba::vision {
namespace {

using testing_tools::TemporaryFolder;

// 64 MiB of activations an image.
struct Wide : torch::nn::Module {
  Wide() { scale = register_parameter("scale", at::randn({1})); }
  at::Tensor scale;
};

class Hungry final : public Task {
 public:
  explicit Hungry(int64_t batch) : batch_(batch) {
    net_ = std::make_shared<Wide>();
    net_->to(at::kCUDA);
  }
  torch::nn::Module& model() override { return *net_; }
  int64_t steps_per_epoch() const override { return 2; }
  int64_t batch_size() const override { return batch_; }
  void start_epoch(int64_t, int64_t) override {}
  std::vector<torch::Tensor> next_batch() override {
    return {at::randn({batch_, 4}, at::TensorOptions(at::kCUDA))};
  }
  torch::Tensor loss(const std::vector<torch::Tensor>& batch) override {
    const at::Tensor wide = (batch[0] * net_->scale).repeat({1, int64_t{2} << 20});
    return wide.tanh().square().mean();  // 32 MiB each
  }
  Metrics evaluate() override { return {{"score", 0.0}}; }
  std::string primary_metric() const override { return "score"; }
  std::string data_fingerprint() const override { return ""; }
  std::map<std::string, std::string> weights_metadata() const override { return {}; }

 private:
  int64_t batch_;
  std::shared_ptr<Wide> net_;
};

TEST(OutOfMemory, OnCudaTheBatchThatIsNamedFits) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "needs a GPU";
  }
  const TemporaryFolder folder;
  const c10::Device device(at::kCUDA, 0);
  const auto total = static_cast<double>(device_memory(device).total);
  c10::cuda::CUDACachingAllocator::setMemoryFraction(8.0 * (1 << 30) / total, 0);
  TrainOptions options;
  options.epochs = 1;
  options.warmup_epochs = 0;
  const auto run = [&](int64_t batch, const char* name) {
    Hungry task(batch);
    options.batch_size = batch;
    train(task, options, {.folder = folder.path() / name, .title = "", .config = ""});
  };
  std::string message;
  try {
    run(1024, "large");
  } catch (const Error& error) {
    message = error.what();
  }
  std::smatch found;
  const bool named = std::regex_search(message, found, std::regex("train.batch_size = (\\d+)"));
  EXPECT_TRUE(named) << message;
  if (named) {
    const int64_t batch = std::stoll(found[1]);
    EXPECT_GT(batch, 30) << message;
    EXPECT_NO_THROW(run(batch, "fitting")) << message;
    EXPECT_THROW(run(2 * batch, "double"), Error);
  }
  c10::cuda::CUDACachingAllocator::setMemoryFraction(1.0, 0);
}

}  // namespace
}  // namespace comba::vision
