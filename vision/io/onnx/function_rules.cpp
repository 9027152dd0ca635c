// Normalisations.
#include "vision/base/error.h"
#include "vision/io/onnx/converter.h"

namespace comba::vision::onnx {
namespace {

// x, normalised shape, weight, bias, eps
void layer_norm(Converter& c, const jit::Node& node) {
  const auto dtype = c.dtype(node.output());
  COMBA_CHECK(!c.is_none(node, 2), "writing ONNX: layer normalisation without a weight");
  std::vector<std::string> inputs = {c.input(node, 0, dtype), c.input(node, 2, dtype)};
  if (!c.is_none(node, 3)) {
    inputs.push_back(c.input(node, 3, dtype));
  }
  c.define(node, "LayerNormalization", std::move(inputs),
           {{"axis", -static_cast<int64_t>(c.integers(node, 1).size())},
            {"epsilon", c.number(node, 4)}});
}

// x, weight, bias, mean, variance, training, momentum, eps
void batch_norm(Converter& c, const jit::Node& node) {
  COMBA_CHECK(!c.flag(node, 5), "writing ONNX: batch normalisation in training mode");
  const auto dtype = c.dtype(node.output());
  std::vector<std::string> inputs;
  for (size_t i = 0; i < 5; ++i) {
    inputs.push_back(c.input(node, i, dtype));
  }
  c.define(node, "BatchNormalization", std::move(inputs), {{"epsilon", c.number(node, 7)}});
}

}  // namespace

void add_function_rules(Rules& rules) {
  rules["aten::layer_norm"] = &layer_norm;
  rules["aten::batch_norm"] = &batch_norm;
}

}  // namespace comba::vision::onnx
