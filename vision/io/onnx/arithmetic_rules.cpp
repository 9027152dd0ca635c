// Elementwise operators and sums.
#include "vision/base/error.h"
#include "vision/io/onnx/converter.h"

#include <cmath>

#include <ATen/ops/scalar_tensor.h>

namespace comba::vision::onnx {
namespace {

template <const char* kOp>
void binary(Converter& c, const jit::Node& node) {
  const auto dtype = c.dtype(node.output());
  c.define(node, kOp, {c.input(node, 0, dtype), c.input(node, 1, dtype)});
}

// x + alpha y
template <const char* kOp>
void scaled_binary(Converter& c, const jit::Node& node) {
  const auto dtype = c.dtype(node.output());
  std::string y = c.input(node, 1, dtype);
  if (c.number(node, 2) != 1.0) {
    y = c.add("Mul", {y, c.scalar(c.number(node, 2), dtype)});
  }
  c.define(node, kOp, {c.input(node, 0, dtype), y});
}

template <const char* kOp>
void unary(Converter& c, const jit::Node& node) {
  c.define(node, kOp, {c.input(node, 0)});
}

void square(Converter& c, const jit::Node& node) {
  const std::string x = c.input(node, 0);
  c.define(node, "Mul", {x, x});
}

void rsqrt(Converter& c, const jit::Node& node) {
  c.define(node, "Reciprocal", {c.add("Sqrt", {c.input(node, 0)})});
}

void silu(Converter& c, const jit::Node& node) {
  const std::string x = c.input(node, 0);
  c.define(node, "Mul", {x, c.add("Sigmoid", {x})});
}

// By the error function, in the order that runtimes look for.
void gelu(Converter& c, const jit::Node& node) {
  const auto dtype = c.dtype(node.output());
  const std::string x = c.input(node, 0);
  if (node.inputs().size() > 1 && c.known(node, 1).toStringRef() != "none") {
    throw Error("writing ONNX: there is a rule for the exact GELU alone, not for its tanh form");
  }
  const std::string erf = c.add("Erf", {c.add("Div", {x, c.scalar(std::sqrt(2.0), dtype)})});
  const std::string product = c.add("Mul", {x, c.add("Add", {erf, c.scalar(1.0, dtype)})});
  c.define(node, "Mul", {product, c.scalar(0.5, dtype)});
}

// ONNX's has neither slope nor threshold; beyond a threshold of 20 or more both are x in fp32.
void softplus(Converter& c, const jit::Node& node) {
  COMBA_CHECK(
      c.number(node, 1) == 1.0 && c.number(node, 2) >= 20.0,
      "writing ONNX: softplus: expected slope 1 and a threshold of 20 or more, got {} and {}",
      c.number(node, 1), c.number(node, 2));
  c.define(node, "Softplus", {c.input(node, 0)});
}

void clip(Converter& c, const jit::Node& node, size_t low, size_t high) {
  const auto dtype = c.dtype(node.output());
  const auto bound = [&](size_t i) {
    return i == 0 || c.is_none(node, i) ? std::string() : c.input(node, i, dtype);
  };
  std::vector<std::string> inputs = {c.input(node, 0), bound(low), bound(high)};
  while (inputs.back().empty()) {
    inputs.pop_back();
  }
  c.define(node, "Clip", std::move(inputs));
}
void clamp(Converter& c, const jit::Node& node) { clip(c, node, 1, 2); }
void clamp_min(Converter& c, const jit::Node& node) { clip(c, node, 1, 0); }
void clamp_max(Converter& c, const jit::Node& node) { clip(c, node, 0, 1); }

// x, dims, keepdim, dtype
void sum(Converter& c, const jit::Node& node) {
  c.define(node, "ReduceSum",
           {c.input(node, 0, c.dtype(node.output())), c.ints(c.integers(node, 1))},
           {{"keepdims", static_cast<int64_t>(c.flag(node, 2))}});
}
void mean(Converter& c, const jit::Node& node) {
  c.define(node, "ReduceMean", {c.input(node, 0, c.dtype(node.output()))},
           {{"axes", c.integers(node, 1)}, {"keepdims", static_cast<int64_t>(c.flag(node, 2))}});
}

void cumsum(Converter& c, const jit::Node& node) {
  const auto rank = static_cast<int64_t>(c.sizes(node.output()).size());
  c.define(node, "CumSum",
           {c.input(node, 0, c.dtype(node.output())),
            c.tensor(at::scalar_tensor(c.dimension(node, 1, rank), at::kLong))});
}

void to(Converter& c, const jit::Node& node) {
  c.alias(node.output(), c.input(node, 0, c.dtype(node.output())));
}

constexpr char kAdd[] = "Add", kSub[] = "Sub", kMul[] = "Mul", kDiv[] = "Div", kExp[] = "Exp",
               kNeg[] = "Neg", kSigmoid[] = "Sigmoid", kRelu[] = "Relu", kSqrt[] = "Sqrt",
               kReciprocal[] = "Reciprocal";

}  // namespace

void add_arithmetic_rules(Rules& rules) {
  rules["aten::add"] = &scaled_binary<kAdd>;
  rules["aten::sub"] = &scaled_binary<kSub>;
  rules["aten::mul"] = &binary<kMul>;
  rules["aten::div"] = &binary<kDiv>;
  rules["aten::exp"] = &unary<kExp>;
  rules["aten::neg"] = &unary<kNeg>;
  rules["aten::sigmoid"] = &unary<kSigmoid>;
  rules["aten::relu"] = &unary<kRelu>;
  rules["aten::sqrt"] = &unary<kSqrt>;
  rules["aten::reciprocal"] = &unary<kReciprocal>;
  rules["aten::square"] = &square;
  rules["aten::rsqrt"] = &rsqrt;
  rules["aten::silu"] = &silu;
  rules["aten::gelu"] = &gelu;
  rules["aten::softplus"] = &softplus;
  rules["aten::clamp"] = &clamp;
  rules["aten::clamp_min"] = &clamp_min;
  rules["aten::clamp_max"] = &clamp_max;
  rules["aten::sum"] = &sum;
  rules["aten::mean"] = &mean;
  rules["aten::cumsum"] = &cumsum;
  for (const char* same : {"aten::to", "aten::contiguous", "aten::detach", "aten::alias"}) {
    rules[same] = &to;
  }
}

}  // namespace comba::vision::onnx
