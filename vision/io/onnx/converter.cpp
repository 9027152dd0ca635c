#include "vision/io/onnx/converter.h"

#include "vision/base/error.h"

#include <algorithm>
#include <set>

#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <fmt/ranges.h>

namespace comba::vision::onnx {
namespace {

constexpr int64_t kSmall =
    64;  // elements of constants that are stored once however often they are used

}  // namespace

Converter::Converter(const GraphModel& model, const Recording& recording)
    : source_(model), recording_(recording) {
  add_arithmetic_rules(rules_);
  add_shape_rules(rules_);
  add_product_rules(rules_);
  add_function_rules(rules_);
}

const c10::IValue& Converter::known(const jit::Node& node, size_t i) const {
  const auto found = constants_.find(node.input(i));
  COMBA_CHECK(found != constants_.end(),
              "writing {} as ONNX: input {} of {} depends on the images; expected a constant",
              source_.name, i, node.kind().toQualString());
  return found->second;
}

bool Converter::is_none(const jit::Node& node, size_t i) const {
  const auto found = constants_.find(node.input(i));
  return found != constants_.end() && found->second.isNone();
}

std::vector<int64_t> Converter::integers(const jit::Node& node, size_t i) const {
  const c10::IValue& value = known(node, i);
  return value.isInt() ? std::vector<int64_t>{value.toInt()} : value.toIntVector();
}

int64_t Converter::dimension(const jit::Node& node, size_t i, int64_t rank) const {
  const int64_t dim = integer(node, i);
  return dim < 0 ? dim + rank : dim;
}

const std::vector<int64_t>& Converter::sizes(const jit::Value* value) const {
  return recording_.sizes(value);
}

at::ScalarType Converter::dtype(const jit::Value* value) const {
  if (const auto known = constant(value)) {
    return known->scalar_type();
  }
  const auto type = value->type()->cast<c10::TensorType>();
  COMBA_CHECK(type && type->scalarType(), "writing {} as ONNX: %{} has no recorded dtype",
              source_.name, value->debugName());
  return *type->scalarType();
}

std::optional<at::Tensor> Converter::constant(const jit::Value* value) const {
  const auto found = constants_.find(value);
  return found != constants_.end() && found->second.isTensor()
             ? std::optional(found->second.toTensor())
             : std::nullopt;
}

std::string Converter::value(const jit::Value* value, std::optional<at::ScalarType> as) {
  const auto known = constants_.find(value);
  if (known != constants_.end() && !known->second.isTensor()) {
    return scalar(known->second.toScalar().toDouble(), as.value_or(at::kFloat));
  }
  if (known != constants_.end()) {
    const at::Tensor& tensor = known->second.toTensor();
    if (as && tensor.scalar_type() != *as) {
      return this->tensor(tensor.to(*as));
    }
    std::string& name = names_[value];
    if (name.empty()) {
      const auto path = paths_.find(value);
      name = this->tensor(tensor, path == paths_.end() ? "" : path->second);
    }
    return name;
  }
  const auto found = names_.find(value);
  COMBA_CHECK(found != names_.end(), "writing {} as ONNX: nothing computes %{}", source_.name,
              value->debugName());
  return as && dtype(value) != *as ? cast(found->second, *as) : found->second;
}

std::string Converter::input(const jit::Node& node, size_t i, std::optional<at::ScalarType> as) {
  return value(node.input(i), as);
}

std::vector<std::string> Converter::list(const jit::Node& node, size_t i, at::ScalarType as) {
  const jit::Node* made = node.input(i)->node();
  COMBA_CHECK(made->kind() == c10::prim::ListConstruct,
              "writing {} as ONNX: {} takes a list that {} makes", source_.name,
              node.kind().toQualString(), made->kind().toQualString());
  std::vector<std::string> names;
  for (const jit::Value* item : made->inputs()) {
    names.push_back(value(item, as));
  }
  return names;
}

std::string Converter::tensor(const at::Tensor& values, const std::string& name) {
  const at::Tensor dense = values.detach().contiguous();
  std::string content;
  if (dense.numel() <= kSmall) {
    content =
        fmt::format("{} {} ", static_cast<int>(dense.scalar_type()), fmt::join(dense.sizes(), "x"));
    content.append(static_cast<const char*>(dense.const_data_ptr()), dense.nbytes());
    const auto found = small_.find(content);
    if (found != small_.end()) {
      return found->second;
    }
  }
  const std::string own = name.empty() ? fmt::format("constant_{}", counter_++) : name;
  model_.initializers.emplace_back(own, dense);
  if (!content.empty()) {
    small_[content] = own;
  }
  return own;
}

std::string Converter::scalar(double value, at::ScalarType dtype) {
  return tensor(at::full({}, value, at::TensorOptions().dtype(dtype)));
}

std::string Converter::ints(const std::vector<int64_t>& values) {
  return tensor(at::tensor(values, at::kLong));
}

void Converter::define_outputs(at::ArrayRef<const jit::Value*> values, const std::string& op,
                               std::vector<std::string> inputs, Attributes attributes) {
  Node node{op, std::move(inputs), {}, std::move(attributes)};
  for (const jit::Value* value : values) {
    names_[value] = fmt::format("v{}", counter_++);
    node.outputs.push_back(names_[value]);
  }
  model_.nodes.push_back(std::move(node));
}

void Converter::define(const jit::Value* value, const std::string& op,
                       std::vector<std::string> inputs, Attributes attributes) {
  define_outputs({value}, op, std::move(inputs), std::move(attributes));
}

void Converter::define(const jit::Node& node, const std::string& op,
                       std::vector<std::string> inputs, Attributes attributes) {
  define(node.output(0), op, std::move(inputs), std::move(attributes));
}

std::string Converter::add(const std::string& op, std::vector<std::string> inputs,
                           Attributes attributes) {
  const std::string name = fmt::format("v{}", counter_++);
  model_.nodes.push_back({op, std::move(inputs), {name}, std::move(attributes)});
  return name;
}

std::string Converter::cast(const std::string& name, at::ScalarType dtype) {
  return add("Cast", {name}, {{"to", data_type(dtype)}});
}

std::string Converter::reshape(const std::string& name, const std::vector<int64_t>& sizes) {
  COMBA_CHECK(std::count(sizes.begin(), sizes.end(), -1) <= 1,
              "writing {} as ONNX: a shape [{}] depends on the batch in several dimensions",
              source_.name, fmt::join(sizes, ", "));
  return add("Reshape", {name, ints(sizes)});
}

std::string Converter::slice(const std::string& name, int64_t dim, int64_t begin, int64_t end,
                             int64_t step) {
  return add("Slice", {name, ints({begin}), ints({end}), ints({dim}), ints({step})});
}

// Whether the node's outputs are constants; if so they are noted.
bool Converter::fold(const jit::Node& node) {
  const jit::Value* output = node.outputs().empty() ? nullptr : node.output(0);
  if (node.kind() == c10::prim::Constant) {
    constants_[output] = *jit::toIValue(output);
    return true;
  }
  if (node.kind() == c10::prim::GetAttr) {
    const auto owner = constants_.find(node.input(0));
    const std::string& name = node.s(c10::attr::name);
    constants_[output] = owner->second.toObjectRef().getAttr(name);
    const std::string& prefix = paths_[node.input(0)];
    paths_[output] = prefix.empty() ? name : prefix + "." + name;
    return true;
  }
  // Whose size alone counts.
  const bool ones = node.kind() == c10::aten::new_ones;
  for (size_t i = ones ? 1 : 0; i < node.inputs().size(); ++i) {
    if (!constants_.contains(node.input(i))) {
      return false;
    }
  }
  if (ones) {
    constants_[output] = at::ones(integers(node, 1), at::TensorOptions().dtype(dtype(output)));
    return true;
  }
  jit::Stack stack;
  for (const jit::Value* item : node.inputs()) {
    stack.push_back(constants_.at(item));
  }
  if (node.kind() == c10::prim::ListConstruct) {
    c10::impl::GenericList items(output->type()->expectRef<c10::ListType>().getElementType());
    for (c10::IValue& item : stack) {
      items.push_back(std::move(item));
    }
    constants_[output] = c10::IValue(items);
    return true;
  }
  if (node.kind() == c10::prim::ListUnpack) {
    const c10::IValue list = stack.front();
    stack.assign(list.toListRef().begin(), list.toListRef().end());
  } else {
    node.getOperation()(stack);
  }
  for (size_t i = 0; i < node.outputs().size(); ++i) {
    constants_[node.output(i)] = stack.at(i);
  }
  return true;
}

void Converter::convert_node(const jit::Node& node) {
  if (fold(node) || node.kind() == c10::prim::ListConstruct ||
      node.kind() == c10::prim::TupleConstruct) {
    return;
  }
  if (node.kind() == c10::prim::ListUnpack) {
    COMBA_CHECK(names_.contains(node.output(0)),
                "writing {} as ONNX: no rule unpacks the list of {}", source_.name,
                node.input(0)->node()->kind().toQualString());
    return;
  }
  const auto rule = rules_.find(node.kind().toQualString());
  COMBA_CHECK(rule != rules_.end(),
              "writing {} as ONNX: the model uses the operator {}, for which there is no rule; add "
              "one in vision/io/onnx/",
              source_.name, node.kind().toQualString());
  rule->second(*this, node);
}

// Outputs get their names by copies, which every runtime takes out.
void Converter::name_outputs(const jit::Node& result) {
  std::vector<const jit::Value*> values;
  for (const jit::Value* value : result.inputs()) {
    if (value->node()->kind() == c10::prim::TupleConstruct) {
      for (const jit::Value* item : value->node()->inputs()) {
        values.push_back(item);
      }
    } else {
      values.push_back(value);
    }
  }
  COMBA_CHECK(values.size() == source_.outputs.size(),
              "writing {} as ONNX: {} outputs were recorded, {} have names", source_.name,
              values.size(), source_.outputs.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const std::string& name = source_.outputs[i];
    model_.nodes.push_back({"Identity", {value(values[i])}, {name}, {}});
    model_.outputs.push_back({name, dtype(values[i]), sizes(values[i])});
  }
}

// Runtimes plan memory by sizes that are known to be equal; where the batch has no name, onnxruntime searches for a minute and
// finds nothing.
void Converter::describe_values() {
  std::set<std::string> computed;
  for (const Node& node : model_.nodes) {
    computed.insert(node.outputs.begin(), node.outputs.end());
  }
  for (const TensorInfo& output : model_.outputs) {
    computed.erase(output.name);
  }
  const auto traced_sizes = [](const jit::Value* value) {
    return value->type()->expectRef<c10::TensorType>().sizes().concrete_sizes();
  };
  const int64_t batch = traced_sizes(recording_.graph->inputs()[1]).value().at(0);
  for (const jit::Node* node : recording_.graph->nodes()) {
    for (const jit::Value* value : node->outputs()) {
      const auto found = names_.find(value);
      if (found == names_.end() || computed.erase(found->second) == 0) {
        continue;  // a constant, an output, or what an earlier value calls the same
      }
      std::vector<int64_t> named = sizes(value);
      const auto traced = traced_sizes(value);
      for (size_t i = 0; traced && i < named.size(); ++i) {
        named[i] = named[i] < 0 ? -traced->at(i) / batch : named[i];
      }
      model_.values.push_back({found->second, dtype(value), std::move(named)});
    }
  }
}

Model Converter::convert() {
  model_.name = source_.name;
  const auto inputs = recording_.graph->inputs();
  constants_[inputs[0]] = recording_.module._ivalue();
  for (size_t i = 1; i < inputs.size(); ++i) {
    const std::string& name = source_.inputs.at(i - 1);
    names_[inputs[i]] = name;
    model_.inputs.push_back({name, dtype(inputs[i]), sizes(inputs[i])});
  }
  for (const jit::Node* node : recording_.graph->nodes()) {
    convert_node(*node);
  }
  name_outputs(*recording_.graph->return_node());
  describe_values();
  return std::move(model_);
}

}  // namespace comba::vision::onnx
