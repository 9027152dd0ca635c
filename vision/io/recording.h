// A model's computation as a graph of LibTorch's own operators, recorded by its tracer: what the files for other programs
// (TorchScript, ONNX) are made of.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/nn/module.h>

namespace comba::vision {

using Tensors = std::vector<at::Tensor>;

// What is recorded. Inputs and outputs are fp32; their dimension 0 is the batch, of any size.
struct GraphModel {
  std::string name;  // "classifier"
  std::shared_ptr<torch::nn::Module>
      model;  // whose parameters `run` uses; on the CPU, in eval mode
  std::vector<std::string> inputs, outputs;  // their names
  std::function<Tensors(const Tensors&)> run;
  int64_t channels = 3, side = 0, patch = 1;  // of the images it is for, and of their patches
  std::function<Tensors(const at::Tensor& images)>
      inputs_of;  // from such images [B, C, S, S], normalised
};

struct Recording {
  // Sizes of a value of `graph`; -1 where they depend on the batch.
  const std::vector<int64_t>& sizes(const torch::jit::Value* value) const;

  torch::jit::Module module;                 // parameters under the model's names, method "forward"
  std::shared_ptr<torch::jit::Graph> graph;  // of forward; input 0 is the module
  std::map<const torch::jit::Value*, std::vector<int64_t>> shapes;
};

// Records the model at two batch sizes. Throws Error if they differ by more than sizes, so that the graph would hold for one of
// them alone.
Recording record(const GraphModel& model);

}  // namespace comba::vision
