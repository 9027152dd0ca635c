// An ONNX model in memory and its file. Opset 17, the widest accepted that has layer normalisation.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::vision::onnx {

constexpr int64_t kOpset = 17, kIrVersion = 8;

using Attribute = std::variant<int64_t, double, std::string, std::vector<int64_t>>;
using Attributes = std::vector<std::pair<std::string, Attribute>>;

struct Node {
  std::string op;
  std::vector<std::string> inputs, outputs;  // "" for an absent input
  Attributes attributes;
};

struct TensorInfo {
  std::string name;
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> sizes;  // -n: n times the batch
};

struct Model {
  std::string name, producer_version;
  std::vector<TensorInfo> inputs, outputs;
  std::vector<Node> nodes;
  std::vector<TensorInfo> values;  // what is known of the nodes' outputs
  std::vector<std::pair<std::string, at::Tensor>> initializers;
  std::map<std::string, std::string> metadata;
};

// Protobuf messages end at 2 GiB; initializers beyond that go into a file beside the model's, as ONNX calls it external data.
constexpr int64_t kLargestFile = int64_t{1} << 31;

// Whole or absent. Where the initializers make up `external_from` bytes or more, they are written to PATH.data; returns whether.
bool save(const std::filesystem::path& path, const Model& model,
          int64_t external_from = kLargestFile - (int64_t{64} << 20));

// ONNX's number of a dtype; throws Error for one it does not have.
int64_t data_type(at::ScalarType dtype);

}  // namespace comba::vision::onnx
