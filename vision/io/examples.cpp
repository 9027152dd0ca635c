#include "vision/io/examples.h"

#include "vision/io/safetensors.h"

#include <algorithm>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <fmt/format.h>

namespace comba::vision {
namespace {

constexpr double kBlack = -2.1;  // (0 - mean) / std of photographs, about
constexpr int64_t kLargestBatch = 5;

}  // namespace

at::Tensor example_images(const GraphModel& model, int64_t batch) {
  const at::Generator generator = at::detail::createCPUGenerator(/*seed_val=*/7);
  const auto options = at::TensorOptions().dtype(at::kFloat);
  const std::vector<int64_t> sizes = {model.channels, model.side, model.side};
  std::vector<at::Tensor> images;
  for (int64_t i = 0; i < batch; ++i) {
    switch (i % 4) {
      case 1:
        images.push_back(at::full(sizes, 0.4, options));
        break;
      case 2:
        images.push_back(at::full(sizes, kBlack, options));
        break;
      case 3:
        images.push_back(at::randn({model.channels, model.patch, model.patch}, generator, options)
                             .repeat({1, model.side / model.patch, model.side / model.patch}));
        break;
      default:
        images.push_back(at::randn(sizes, generator, options));
    }
  }
  return at::stack(images);
}

std::vector<Example> make_examples(const GraphModel& model, const at::Tensor& pictures) {
  const at::NoGradGuard no_grad;
  const at::Tensor made_up = example_images(model, kLargestBatch);
  const at::Tensor all = pictures.defined() ? at::cat({made_up, pictures}) : made_up;
  std::vector<Example> examples;
  const auto add = [&](int64_t first, int64_t count) {
    Example example{model.inputs_of(all.narrow(0, first, count)), {}};
    example.outputs = model.run(example.inputs);
    examples.push_back(std::move(example));
  };
  for (int64_t first = 0; first < all.size(0); first += kLargestBatch) {
    add(first, 1);
    add(first, std::min(kLargestBatch, all.size(0) - first));
  }
  return examples;
}

void save_examples(const std::filesystem::path& path, const GraphModel& model,
                   const std::vector<Example>& examples) {
  NamedTensors tensors;
  const auto add = [&](size_t n, const char* kind, const std::vector<std::string>& names,
                       const Tensors& values) {
    for (size_t i = 0; i < names.size(); ++i) {
      tensors.emplace_back(fmt::format("{}.{}.{}", n, kind, names[i]), values.at(i));
    }
  };
  for (size_t n = 0; n < examples.size(); ++n) {
    add(n, "input", model.inputs, examples[n].inputs);
    add(n, "output", model.outputs, examples[n].outputs);
  }
  save_safetensors(path, tensors);
}

}  // namespace comba::vision
