// Matrix products and convolutions.
#include "vision/base/error.h"
#include "vision/io/onnx/converter.h"

#include <cmath>
#include <utility>

namespace comba::vision::onnx {
namespace {

void matmul(Converter& c, const jit::Node& node) {
  const auto dtype = c.dtype(node.output());
  c.define(node, "MatMul", {c.input(node, 0, dtype), c.input(node, 1, dtype)});
}

// bias, x, factor, beta, alpha
void addmm(Converter& c, const jit::Node& node) {
  const auto dtype = c.dtype(node.output());
  c.define(node, "Gemm",
           {c.input(node, 1, dtype), c.input(node, 2, dtype), c.input(node, 0, dtype)},
           {{"alpha", c.number(node, 4)}, {"beta", c.number(node, 3)}});
}

// x, weight [out, in], bias
void linear(Converter& c, const jit::Node& node) {
  const auto dtype = c.dtype(node.output());
  const auto weight = c.constant(node.input(1));
  const std::string factor = weight ? c.tensor(weight->to(dtype).t())
                                    : c.add("Transpose", {c.input(node, 1, dtype)},
                                            {{"perm", std::vector<int64_t>{1, 0}}});
  const std::vector<std::string> product = {c.input(node, 0, dtype), factor};
  if (c.is_none(node, 2)) {
    c.define(node, "MatMul", product);
  } else {
    c.define(node, "Add", {c.add("MatMul", product), c.input(node, 2, dtype)});
  }
}

// x, weight, bias, stride, padding, dilation, then groups; in LibTorch's inner form transposed and output padding before it.
void convolve(Converter& c, const jit::Node& node, size_t groups) {
  const auto dtype = c.dtype(node.output());
  std::vector<std::string> inputs = {c.input(node, 0, dtype), c.input(node, 1, dtype)};
  if (!c.is_none(node, 2)) {
    inputs.push_back(c.input(node, 2, dtype));
  }
  const size_t space = c.sizes(node.input(0)).size() - 2;
  const auto each = [&](size_t i, size_t times) {
    const std::vector<int64_t> given = c.integers(node, i);
    std::vector<int64_t> all;
    for (size_t n = 0; n < times * space; ++n) {
      all.push_back(given[given.size() == 1 ? 0 : n % space]);
    }
    return all;
  };
  c.define(node, "Conv", std::move(inputs),
           {{"strides", each(3, 1)},
            {"pads", each(4, 2)},
            {"dilations", each(5, 1)},
            {"group", c.integer(node, groups)}});
}
// x, size of the output. ONNX has it where every cell is the mean of equally many.
void adaptive_avg_pool(Converter& c, const jit::Node& node) {
  const std::vector<int64_t>& from = c.sizes(node.input(0));
  const std::vector<int64_t> to = c.integers(node, 1);
  std::vector<int64_t> cell;
  for (size_t i = 0; i < to.size(); ++i) {
    const int64_t size = from[from.size() - to.size() + i];
    COMBA_CHECK(size % to[i] == 0,
                "writing ONNX: pooling a side of {} to {}: expected a divisor of it", size, to[i]);
    cell.push_back(size / to[i]);
  }
  c.define(node, "AveragePool", {c.input(node, 0)}, {{"kernel_shape", cell}, {"strides", cell}});
}

void conv2d(Converter& c, const jit::Node& node) { convolve(c, node, 6); }
void convolution(Converter& c, const jit::Node& node) {
  COMBA_CHECK(!c.flag(node, 6), "writing ONNX: there is no rule for transposed convolutions");
  convolve(c, node, 8);
}

// q, k, v [.., T, D], mask, dropout, causal, scale
void attention(Converter& c, const jit::Node& node) {
  COMBA_CHECK(c.number(node, 4) == 0.0 && !c.flag(node, 5),
              "writing ONNX: attention: expected neither dropout nor causal order");
  const auto dtype = c.dtype(node.output());
  const std::vector<int64_t>& sizes = c.sizes(node.input(0));
  const double scale =
      c.is_none(node, 6) ? 1.0 / std::sqrt(static_cast<double>(sizes.back())) : c.number(node, 6);
  std::vector<int64_t> order(sizes.size());
  for (size_t i = 0; i < order.size(); ++i) {
    order[i] = static_cast<int64_t>(i);
  }
  std::swap(order[order.size() - 1], order[order.size() - 2]);
  const std::string q = c.add("Mul", {c.input(node, 0, dtype), c.scalar(scale, dtype)});
  const std::string k = c.add("Transpose", {c.input(node, 1, dtype)}, {{"perm", order}});
  std::string scores = c.add("MatMul", {q, k});
  if (!c.is_none(node, 3)) {
    scores =
        c.add("Add", {scores, c.input(node, 3, dtype)});  // of numbers, as none of ours is boolean
  }
  const std::string shares = c.add("Softmax", {scores}, {{"axis", int64_t{-1}}});
  c.define(node, "MatMul", {shares, c.input(node, 2, dtype)});
}

}  // namespace

void add_product_rules(Rules& rules) {
  rules["aten::mm"] = &matmul;
  rules["aten::matmul"] = &matmul;
  rules["aten::addmm"] = &addmm;
  rules["aten::linear"] = &linear;
  rules["aten::conv2d"] = &conv2d;
  rules["aten::adaptive_avg_pool2d"] = &adaptive_avg_pool;
  rules["aten::_convolution"] = &convolution;
  rules["aten::scaled_dot_product_attention"] = &attention;
}

}  // namespace comba::vision::onnx
