#include "vision/io/onnx/model.h"

#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/io/onnx/wire.h"

#include <c10/core/ScalarType.h>

namespace comba::vision::onnx {
namespace {

// Field numbers of ONNX's published schema (onnx/onnx.proto3).
namespace field {
constexpr int kIrVersion = 1, kProducer = 2, kProducerVersion = 3, kGraph = 7, kOpsetImport = 8,
              kMetadata = 14;  // ModelProto
constexpr int kNode = 1, kGraphName = 2, kInitializer = 5, kInput = 11, kOutput = 12,
              kValueInfo = 13;  // GraphProto
constexpr int kNodeInput = 1, kNodeOutput = 2, kNodeName = 3, kOpType = 4,
              kAttribute = 5;  // NodeProto
constexpr int kAttributeName = 1, kFloat = 2, kInt = 3, kString = 4, kInts = 8,
              kAttributeType = 20;  // AttributeProto
constexpr int kDims = 1, kDataType = 2, kTensorName = 8, kRawData = 9, kExternal = 13,
              kLocation = 14;                                 // TensorProto
constexpr int kValueName = 1, kValueType = 2;                 // ValueInfoProto
constexpr int kTensorType = 1, kElementType = 1, kShape = 2;  // TypeProto
constexpr int kDim = 1, kDimValue = 1, kDimParam = 2;         // TensorShapeProto
constexpr int kKey = 1, kValue = 2;                           // StringStringEntryProto
constexpr int kOpsetVersion = 2;                              // OperatorSetIdProto
}  // namespace field

constexpr uint64_t kExternalAlignment = 4096;
constexpr size_t kInlineBytes = 1024;  // less stays in the model's file: shapes are read from there

enum AttributeType : int64_t { kFloatType = 1, kIntType = 2, kStringType = 3, kIntsType = 7 };

Message entry(std::string_view key, std::string_view value) {
  Message message;
  message.add_bytes(field::kKey, key);
  message.add_bytes(field::kValue, value);
  return message;
}

Message attribute_message(const std::string& name, const Attribute& value) {
  Message message;
  message.add_bytes(field::kAttributeName, name);
  if (const auto* number = std::get_if<int64_t>(&value)) {
    message.add_int(field::kInt, *number);
    message.add_int(field::kAttributeType, kIntType);
  } else if (const auto* real = std::get_if<double>(&value)) {
    message.add_float(field::kFloat, static_cast<float>(*real));
    message.add_int(field::kAttributeType, kFloatType);
  } else if (const auto* text = std::get_if<std::string>(&value)) {
    message.add_bytes(field::kString, *text);
    message.add_int(field::kAttributeType, kStringType);
  } else {
    for (const int64_t item : std::get<std::vector<int64_t>>(value)) {
      message.add_int(field::kInts, item);
    }
    message.add_int(field::kAttributeType, kIntsType);
  }
  return message;
}

Message node_message(const Node& node, size_t index) {
  Message message;
  for (const std::string& input : node.inputs) {
    message.add_bytes(field::kNodeInput, input);
  }
  for (const std::string& output : node.outputs) {
    message.add_bytes(field::kNodeOutput, output);
  }
  message.add_bytes(field::kNodeName, fmt::format("{}_{}", node.op, index));
  message.add_bytes(field::kOpType, node.op);
  for (const auto& [name, value] : node.attributes) {
    message.add_message(field::kAttribute, attribute_message(name, value));
  }
  return message;
}

Message info_message(const TensorInfo& info) {
  Message shape, tensor, type, message;
  for (const int64_t size : info.sizes) {
    Message dim;
    if (size < 0) {
      dim.add_bytes(field::kDimParam, size == -1 ? "batch" : fmt::format("batch_times_{}", -size));
    } else {
      dim.add_int(field::kDimValue, size);
    }
    shape.add_message(field::kDim, dim);
  }
  tensor.add_int(field::kElementType, data_type(info.dtype));
  tensor.add_message(field::kShape, shape);
  type.add_message(field::kTensorType, tensor);
  message.add_bytes(field::kValueName, info.name);
  message.add_message(field::kValueType, type);
  return message;
}

std::string_view bytes_of(const at::Tensor& contiguous) {
  return {static_cast<const char*>(contiguous.const_data_ptr()), contiguous.nbytes()};
}

Message tensor_head(const std::string& name, const at::Tensor& tensor) {
  Message message;
  for (const int64_t size : tensor.sizes()) {
    message.add_int(field::kDims, size);
  }
  message.add_int(field::kDataType, data_type(tensor.scalar_type()));
  message.add_bytes(field::kTensorName, name);
  return message;
}

void add_inline(const std::string& name, const at::Tensor& dense, Message& graph) {
  Message message = tensor_head(name, dense);
  message.add_bytes(field::kRawData, bytes_of(dense));
  graph.add_message(field::kInitializer, message);
}

// Writes the bytes of the large initializers one after the other, and where they are into `graph`.
void write_beside(const std::filesystem::path& path, const Model& model, Message& graph) {
  AtomicFile file(path);
  const std::string padding(kExternalAlignment, '\0');
  for (const auto& [name, tensor] : model.initializers) {
    const at::Tensor dense = tensor.contiguous();
    if (dense.nbytes() < kInlineBytes) {
      add_inline(name, dense, graph);
      continue;
    }
    file.write(padding.data(), -file.position() % kExternalAlignment);
    Message message = tensor_head(name, dense);
    message.add_message(field::kExternal, entry("location", path.filename().string()));
    message.add_message(field::kExternal, entry("offset", std::to_string(file.position())));
    message.add_message(field::kExternal, entry("length", std::to_string(dense.nbytes())));
    message.add_int(field::kLocation, 1);
    graph.add_message(field::kInitializer, message);
    file.write(dense.const_data_ptr(), dense.nbytes());
  }
  file.commit();
}

}  // namespace

int64_t data_type(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return 1;
    case at::kByte:
      return 2;
    case at::kInt:
      return 6;
    case at::kLong:
      return 7;
    case at::kBool:
      return 9;
    case at::kHalf:
      return 10;
    case at::kDouble:
      return 11;
    case at::kBFloat16:
      return 16;
    default:
      throw Error(fmt::format("writing ONNX: it has no tensors of {}", c10::toString(dtype)));
  }
}

bool save(const std::filesystem::path& path, const Model& model, int64_t external_from) {
  Message graph;
  for (size_t i = 0; i < model.nodes.size(); ++i) {
    graph.add_message(field::kNode, node_message(model.nodes[i], i));
  }
  graph.add_bytes(field::kGraphName, model.name);
  int64_t weight_bytes = 0;
  for (const auto& [name, tensor] : model.initializers) {
    weight_bytes += static_cast<int64_t>(tensor.nbytes());
  }
  const bool beside = weight_bytes >= external_from;
  if (beside) {
    write_beside(path.string() + ".data", model, graph);
  } else {
    for (const auto& [name, tensor] : model.initializers) {
      add_inline(name, tensor.contiguous(), graph);
    }
  }
  for (const TensorInfo& info : model.inputs) {
    graph.add_message(field::kInput, info_message(info));
  }
  for (const TensorInfo& info : model.outputs) {
    graph.add_message(field::kOutput, info_message(info));
  }
  for (const TensorInfo& info : model.values) {
    graph.add_message(field::kValueInfo, info_message(info));
  }
  Message file, opset;
  opset.add_bytes(1, "");
  opset.add_int(field::kOpsetVersion, kOpset);
  file.add_int(field::kIrVersion, kIrVersion);
  file.add_bytes(field::kProducer, "comba");
  file.add_bytes(field::kProducerVersion, model.producer_version);
  file.add_message(field::kGraph, graph);
  file.add_message(field::kOpsetImport, opset);
  for (const auto& [key, value] : model.metadata) {
    file.add_message(field::kMetadata, entry(key, value));
  }
  write_file_atomic(path, file.bytes());
  return beside;
}

}  // namespace comba::vision::onnx
