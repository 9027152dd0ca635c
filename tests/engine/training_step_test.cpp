// A step in parts against a step at once, and a recorded one against the same step launch by launch.
#include "vision/engine/training_step.h"

#include "vision/backbone.h"
#include "vision/base/error.h"
#include "vision/engine/side_stream.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/rand_like.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

namespace comba::vision {
namespace {

struct Net : torch::nn::Module {
  explicit Net(bool drops) : drops(drops) {
    first = register_module("first", torch::nn::Linear(6, 16));
    second = register_module("second", torch::nn::Linear(16, 3));
  }
  at::Tensor forward(const at::Tensor& x) {
    const at::Tensor hidden = first->forward(x).tanh();
    return second->forward(drops ? hidden * at::rand_like(hidden).gt(0.2) : hidden);
  }
  bool drops;
  torch::nn::Linear first{nullptr}, second{nullptr};
};

// How batches come.
enum class Batches { others, smaller, in_place };

// Every batch another one.
class Regression final : public Task {
 public:
  Regression(const c10::Device& device, bool drops, Batches kind) : kind_(kind) {
    at::manual_seed(5);
    net_ = std::make_shared<Net>(drops);
    net_->to(device);
    batches_ = at::randn({16, 8, 6}).to(device);
    place_ = at::empty({8, 6}).to(device);
  }
  torch::nn::Module& model() override { return *net_; }
  int64_t steps_per_epoch() const override { return 16; }
  int64_t batch_size() const override { return 8; }
  void start_epoch(int64_t, int64_t) override {}
  std::vector<torch::Tensor> next_batch() override {
    const at::Tensor batch = batches_[step_++];
    if (kind_ == Batches::in_place) {
      return {place_.copy_(batch)};
    }
    return {kind_ == Batches::smaller && step_ > 6 ? batch.narrow(0, 0, 4) : batch};
  }
  torch::Tensor loss(const std::vector<torch::Tensor>& batch) override {
    return (net_->forward(batch[0]) - batch[0].sum(1, true)).square().mean().to(at::kFloat);
  }
  Metrics evaluate() override { return {}; }
  std::string primary_metric() const override { return ""; }
  std::string data_fingerprint() const override { return ""; }
  std::map<std::string, std::string> weights_metadata() const override { return {}; }

 private:
  Batches kind_;  // smaller: from the seventh on
  std::shared_ptr<Net> net_;
  at::Tensor batches_, place_;
  int64_t step_ = 0;
};

// Blocks whose kernels are those of Comba-T.
class Features final : public Task {
 public:
  explicit Features(const c10::Device& device) {
    at::manual_seed(6);
    BackboneConfig config;
    config.image_size = 64;
    config.depth = 2;
    config.drop_path = 0.3;
    model_ = Backbone(config);
    model_->to(device);
    images_ = at::randn({16, 8, 3, 64, 64}).to(device);
  }
  torch::nn::Module& model() override { return *model_; }
  int64_t steps_per_epoch() const override { return 16; }
  int64_t batch_size() const override { return 8; }
  void start_epoch(int64_t, int64_t) override {}
  std::vector<torch::Tensor> next_batch() override { return {images_[step_++]}; }
  torch::Tensor loss(const std::vector<torch::Tensor>& batch) override {
    return (model_->forward(batch[0]).to(at::kFloat) - 1).square().mean();
  }
  Metrics evaluate() override { return {}; }
  std::string primary_metric() const override { return ""; }
  std::string data_fingerprint() const override { return ""; }
  std::map<std::string, std::string> weights_metadata() const override { return {}; }

 private:
  Backbone model_{nullptr};
  at::Tensor images_;
  int64_t step_ = 0;
};

struct Outcome {
  std::vector<at::Tensor> weights;
  double loss = 0;
};

Outcome train(Task& task, const OptimizerOptions& optimizer_options,
              const TrainingStepOptions& options) {
  Outcome outcome;
  Optimizer optimizer(task.model(), optimizer_options);
  TrainingStep step(task, optimizer, options);
  for (int i = 0; i < 10; ++i) {
    step.run(0.01 / (1 + i));
  }
  for (const StepFigures& figures : step.take_figures(*alone())) {
    outcome.loss += figures.loss;
  }
  EXPECT_TRUE(step.take_figures(*alone()).empty());
  for (const at::Tensor& weight : task.model().parameters()) {
    outcome.weights.push_back(weight.detach().cpu());
  }
  return outcome;
}

Outcome train(const c10::Device& device, bool drops, const TrainingStepOptions& options,
              Batches kind = Batches::others) {
  Outcome outcome;
  SideStream(device, /*urgent=*/false).run_alone([&] {
    Regression task(device, drops, kind);
    outcome = train(task, {}, options);
  });
  return outcome;
}

TEST(TrainingStep, InPartsIsTheStepAtOnce) {
  const Outcome whole = train(at::kCPU, false, {}), parts = train(at::kCPU, false, {.parts = 4});
  EXPECT_NEAR(parts.loss, whole.loss, 1e-5);
  for (size_t i = 0; i < whole.weights.size(); ++i) {
    EXPECT_TRUE(at::allclose(parts.weights[i], whole.weights[i], 1e-4, 1e-6)) << "tensor " << i;
  }
}

TEST(TrainingStep, PartsThatDoNotDivideTheBatchAreRefused) {
  try {
    train(at::kCPU, false, {.parts = 3});
    FAIL() << "nothing thrown";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("train.accumulate = 3"), std::string::npos);
  }
}

TEST(TrainingStep, RecordedOnCudaHasTheBitsOfSingleLaunches) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  const c10::Device gpu(at::kCUDA, 0);
  for (const bool drops : {false, true}) {  // with draws from the generator
    for (const Precision precision : {Precision::fp32, Precision::bf16}) {
      const Outcome single = train(gpu, drops, {.precision = precision, .record = false});
      const Outcome recorded = train(gpu, drops, {.precision = precision, .record = true});
      EXPECT_EQ(recorded.loss, single.loss);
      for (size_t i = 0; i < single.weights.size(); ++i) {
        EXPECT_TRUE(at::equal(recorded.weights[i], single.weights[i])) << "tensor " << i;
      }
    }
  }
}

TEST(TrainingStep, RecordedOnCudaABackboneHasTheBitsOfSingleLaunches) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  const auto run = [](bool record) {
    Outcome outcome;
    const c10::Device gpu(at::kCUDA, 0);
    SideStream(gpu, /*urgent=*/false).run_alone([&] {
      Features task(gpu);
      OptimizerOptions optimizer;
      optimizer.weight_decay = 0.05;
      optimizer.clip_grad = 1.0;
      outcome = train(task, optimizer, {.precision = Precision::bf16, .record = record});
    });
    return outcome;
  };
  const Outcome single = run(false), again = run(false), recorded = run(true);
  EXPECT_EQ(recorded.loss, single.loss);
  for (size_t i = 0; i < single.weights.size(); ++i) {
    EXPECT_TRUE(at::equal(again.weights[i], single.weights[i])) << "tensor " << i;
    EXPECT_TRUE(at::equal(recorded.weights[i], single.weights[i])) << "tensor " << i;
  }
}

TEST(TrainingStep, RecordedOnCudaReadsTheSameTensorsWhereTheyAre) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  const c10::Device gpu(at::kCUDA, 0);
  const Outcome single = train(gpu, true, {.record = false});
  for (const bool same : {true, false}) {
    const Outcome recorded =
        train(gpu, true, {.record = true, .same_tensors = same}, Batches::in_place);
    EXPECT_EQ(recorded.loss, single.loss);
    for (size_t i = 0; i < single.weights.size(); ++i) {
      EXPECT_TRUE(at::equal(recorded.weights[i], single.weights[i])) << "tensor " << i;
    }
  }
}

TEST(TrainingStep, OnCudaAnotherShapeIsRecordedAnew) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  const c10::Device gpu(at::kCUDA, 0);
  const Outcome single = train(gpu, true, {.record = false}, Batches::smaller);
  const Outcome recorded = train(gpu, true, {.record = true}, Batches::smaller);
  EXPECT_EQ(recorded.loss, single.loss);
  for (size_t i = 0; i < single.weights.size(); ++i) {
    EXPECT_TRUE(at::equal(recorded.weights[i], single.weights[i])) << "tensor " << i;
  }
}

}  // namespace
}  // namespace comba::vision
