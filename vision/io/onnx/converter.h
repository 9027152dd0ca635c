// From a recorded graph (vision/io/recording.h) to ONNX, operator by operator. What depends on parameters alone is computed
// now and stored as a constant. An operator without a rule is an Error that names it.
#pragma once

#include "vision/io/onnx/model.h"
#include "vision/io/recording.h"

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace comba::vision::onnx {

namespace jit = torch::jit;

class Converter;
// Adds what computes the outputs of a node, whose inputs are there already.
using Rule = void (*)(Converter&, const jit::Node&);
using Rules = std::unordered_map<std::string_view, Rule>;  // by the operator's name, "aten::add"

class Converter {
 public:
  Converter(const GraphModel& model, const Recording& recording);
  Model convert();

  // Of an input of a node that is no tensor, or that has to be a constant. Errors where it is not.
  const c10::IValue& known(const jit::Node& node, size_t i) const;
  bool is_none(const jit::Node& node, size_t i) const;
  int64_t integer(const jit::Node& node, size_t i) const { return known(node, i).toInt(); }
  std::vector<int64_t> integers(const jit::Node& node, size_t i) const;
  bool flag(const jit::Node& node, size_t i) const { return known(node, i).toBool(); }
  double number(const jit::Node& node, size_t i) const {
    return known(node, i).toScalar().toDouble();
  }
  // Of a dimension counted from either end.
  int64_t dimension(const jit::Node& node, size_t i, int64_t rank) const;

  const std::vector<int64_t>& sizes(const jit::Value* value) const;  // -1: the batch
  at::ScalarType dtype(const jit::Value* value) const;

  // Names in the ONNX graph: of an input (a number becomes a constant of that dtype), cast where its dtype is another.
  std::string input(const jit::Node& node, size_t i, std::optional<at::ScalarType> as = {});
  std::vector<std::string> list(const jit::Node& node, size_t i, at::ScalarType as);
  std::string value(const jit::Value* value, std::optional<at::ScalarType> as = {});
  std::optional<at::Tensor> constant(const jit::Value* value) const;

  // Constants.
  std::string tensor(const at::Tensor& values, const std::string& name = "");
  std::string scalar(double value, at::ScalarType dtype);
  std::string ints(const std::vector<int64_t>& values);

  // A node of one output; the second form's is that of the recorded node.
  std::string add(const std::string& op, std::vector<std::string> inputs,
                  Attributes attributes = {});
  void define(const jit::Node& node, const std::string& op, std::vector<std::string> inputs,
              Attributes attributes = {});
  void define(const jit::Value* value, const std::string& op, std::vector<std::string> inputs,
              Attributes attributes = {});
  void define_outputs(at::ArrayRef<const jit::Value*> values, const std::string& op,
                      std::vector<std::string> inputs, Attributes attributes = {});
  void alias(const jit::Value* value, const std::string& name) { names_[value] = name; }
  std::string cast(const std::string& name, at::ScalarType dtype);
  std::string reshape(const std::string& name, const std::vector<int64_t>& sizes);
  // The part [begin, end) along a dimension; with step -1 from its end.
  std::string slice(const std::string& name, int64_t dim, int64_t begin, int64_t end,
                    int64_t step = 1);

 private:
  void convert_node(const jit::Node& node);
  bool fold(const jit::Node& node);
  void name_outputs(const jit::Node& result);
  void describe_values();

  const GraphModel& source_;
  const Recording& recording_;
  Rules rules_;
  Model model_;
  std::unordered_map<const jit::Value*, std::string> names_;
  std::unordered_map<const jit::Value*, c10::IValue> constants_;
  std::unordered_map<const jit::Value*, std::string> paths_;  // of parameters
  std::map<std::string, std::string> small_;                  // constants by content
  int64_t counter_ = 0;
};

void add_arithmetic_rules(Rules& rules);
void add_shape_rules(Rules& rules);
void add_product_rules(Rules& rules);
void add_function_rules(Rules& rules);

}  // namespace comba::vision::onnx
