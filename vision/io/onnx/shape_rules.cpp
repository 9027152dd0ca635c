// Operators that move numbers and compute none.
#include "vision/base/error.h"
#include "vision/io/onnx/converter.h"

#include <limits>
#include <numeric>

#include <ATen/ops/scalar_tensor.h>

namespace comba::vision::onnx {
namespace {

int64_t rank_of(Converter& c, const jit::Value* value) {
  return static_cast<int64_t>(c.sizes(value).size());
}

// Whatever says it: the recorded shape of the output is what counts.
void reshape(Converter& c, const jit::Node& node) {
  c.alias(node.output(), c.reshape(c.input(node, 0), c.sizes(node.output())));
}

void permute(Converter& c, const jit::Node& node) {
  const int64_t rank = rank_of(c, node.output());
  std::vector<int64_t> order = c.integers(node, 1);
  for (int64_t& dim : order) {
    dim += dim < 0 ? rank : 0;
  }
  c.define(node, "Transpose", {c.input(node, 0)}, {{"perm", order}});
}

void swap(Converter& c, const jit::Node& node, int64_t a, int64_t b) {
  std::vector<int64_t> order(c.sizes(node.output()).size());
  std::iota(order.begin(), order.end(), 0);
  std::swap(order.at(static_cast<size_t>(a)), order.at(static_cast<size_t>(b)));
  c.define(node, "Transpose", {c.input(node, 0)}, {{"perm", order}});
}
void transpose(Converter& c, const jit::Node& node) {
  const int64_t rank = rank_of(c, node.output());
  swap(c, node, c.dimension(node, 1, rank), c.dimension(node, 2, rank));
}
void t(Converter& c, const jit::Node& node) { swap(c, node, 0, 1); }

// x, dim, start, length
void narrow(Converter& c, const jit::Node& node) {
  const int64_t dim = c.dimension(node, 1, rank_of(c, node.output())), start = c.integer(node, 2);
  const int64_t size = c.sizes(node.input(0)).at(static_cast<size_t>(dim)),
                begin = start < 0 ? start + size : start;
  COMBA_CHECK(begin >= 0, "writing ONNX: narrow along the batch from its end");
  c.alias(node.output(), c.slice(c.input(node, 0), dim, begin, begin + c.integer(node, 3)));
}

void select(Converter& c, const jit::Node& node) {
  const int64_t dim = c.dimension(node, 1, rank_of(c, node.input(0)));
  c.define(node, "Gather",
           {c.input(node, 0), c.tensor(at::scalar_tensor(c.integer(node, 2), at::kLong))},
           {{"axis", dim}});
}

void flip(Converter& c, const jit::Node& node) {
  std::string x = c.input(node, 0);
  const int64_t rank = rank_of(c, node.output());
  for (const int64_t dim : c.integers(node, 1)) {
    x = c.slice(x, dim < 0 ? dim + rank : dim, -1, std::numeric_limits<int64_t>::min() + 1, -1);
  }
  c.alias(node.output(), x);
}

// x, shift, dim; of one dimension
void roll(Converter& c, const jit::Node& node) {
  const std::vector<int64_t> shifts = c.integers(node, 1), dims = c.integers(node, 2);
  COMBA_CHECK(shifts.size() == 1 && dims.size() == 1,
              "writing ONNX: roll: expected one dimension, got {}", dims.size());
  const int64_t rank = rank_of(c, node.output()), dim = dims[0] < 0 ? dims[0] + rank : dims[0],
                size = c.sizes(node.output()).at(static_cast<size_t>(dim));
  COMBA_CHECK(size > 0, "writing ONNX: roll along the batch");
  const int64_t cut = ((-shifts[0]) % size + size) % size;  // the new beginning
  const std::string x = c.input(node, 0);
  c.define(node, "Concat", {c.slice(x, dim, cut, size), c.slice(x, dim, 0, cut)}, {{"axis", dim}});
}

void cat(Converter& c, const jit::Node& node) {
  c.define(node, "Concat", c.list(node, 0, c.dtype(node.output())),
           {{"axis", c.dimension(node, 1, rank_of(c, node.output()))}});
}

void stack(Converter& c, const jit::Node& node) {
  const int64_t dim = c.dimension(node, 1, rank_of(c, node.output()));
  std::vector<std::string> parts;
  for (const std::string& part : c.list(node, 0, c.dtype(node.output()))) {
    parts.push_back(c.add("Unsqueeze", {part, c.ints({dim})}));
  }
  c.define(node, "Concat", std::move(parts), {{"axis", dim}});
}

// The values that a list of tensors is taken apart into.
at::ArrayRef<const jit::Value*> parts_of(const jit::Node& node) {
  const auto& uses = node.output()->uses();
  COMBA_CHECK(uses.size() == 1 && uses[0].user->kind() == c10::prim::ListUnpack,
              "writing ONNX: the list of {} is used other than by taking it apart",
              node.kind().toQualString());
  const jit::Node& user = *uses[0].user;
  return user.outputs();
}

// x, size or number of the parts, dim
void split(Converter& c, const jit::Node& node) {
  const auto parts = parts_of(node);
  const int64_t dim = c.dimension(node, 2, rank_of(c, node.input(0)));
  if (parts.size() == 1) {
    c.alias(parts[0], c.input(node, 0));
    return;
  }
  std::vector<int64_t> lengths;
  for (const jit::Value* part : parts) {
    lengths.push_back(c.sizes(part).at(static_cast<size_t>(dim)));
  }
  c.define_outputs(parts, "Split", {c.input(node, 0), c.ints(lengths)}, {{"axis", dim}});
}

void unbind(Converter& c, const jit::Node& node) {
  const int64_t dim = c.dimension(node, 1, rank_of(c, node.input(0)));
  int64_t index = 0;
  for (const jit::Value* part : parts_of(node)) {
    c.define(part, "Gather", {c.input(node, 0), c.tensor(at::scalar_tensor(index++, at::kLong))},
             {{"axis", dim}});
  }
}

// x, pad (of the last dimension first: before, behind), value
void pad(Converter& c, const jit::Node& node) {
  const std::vector<int64_t> amounts = c.integers(node, 1);
  const size_t rank = c.sizes(node.output()).size();
  std::vector<int64_t> pads(2 * rank, 0);  // all before, then all behind
  for (size_t i = 0; 2 * i < amounts.size(); ++i) {
    pads[rank - 1 - i] = amounts[2 * i];
    pads[2 * rank - 1 - i] = amounts[2 * i + 1];
  }
  c.define(node, "Pad",
           {c.input(node, 0), c.ints(pads), c.scalar(c.number(node, 2), c.dtype(node.output()))});
}

void expand_as(Converter& c, const jit::Node& node) {
  c.define(node, "Expand", {c.input(node, 0), c.add("Shape", {c.input(node, 1)})});
}

void tril(Converter& c, const jit::Node& node) {
  c.define(node, "Trilu",
           {c.input(node, 0), c.tensor(at::scalar_tensor(c.integer(node, 1), at::kLong))},
           {{"upper", int64_t{0}}});
}

}  // namespace

void add_shape_rules(Rules& rules) {
  for (const char* reshaping : {"aten::view", "aten::view_as", "aten::reshape", "aten::flatten",
                                "aten::unflatten", "aten::squeeze", "aten::unsqueeze"}) {
    rules[reshaping] = &reshape;
  }
  rules["aten::permute"] = &permute;
  rules["aten::transpose"] = &transpose;
  rules["aten::t"] = &t;
  rules["aten::narrow"] = &narrow;
  rules["aten::select"] = &select;
  rules["aten::flip"] = &flip;
  rules["aten::roll"] = &roll;
  rules["aten::cat"] = &cat;
  rules["aten::stack"] = &stack;
  rules["aten::split"] = &split;
  rules["aten::chunk"] = &split;
  rules["aten::unbind"] = &unbind;
  rules["aten::constant_pad_nd"] = &pad;
  rules["aten::expand_as"] = &expand_as;
  rules["aten::tril"] = &tril;
}

}  // namespace comba::vision::onnx
