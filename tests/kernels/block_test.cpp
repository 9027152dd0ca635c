// Residual sum with norm, and GELU with bias, against LibTorch's operators in fp64 under autograd, and finite differences.
#include "kernels/block/add_norm.h"
#include "kernels/block/bias_gelu.h"
#include "kernels/block/column_sums.h"
#include "tests/kernels/compare.h"

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace comba::kernels::test {
namespace {

using Tensors = std::vector<at::Tensor>;

struct BlockCase {
  std::string name;
  int64_t batch = 3, length = 7, width = 192;
  bool branch = true, share = true, centred = false, bias = true;
  double offset = 0;  // of x: what a centred norm takes away
};
void PrintTo(const BlockCase& c, std::ostream* out) { *out << c.name; }

const BlockCase kCases[] = {
    {.name = "rms"},
    {.name = "layer", .centred = true},
    {.name = "layer_far_from_zero", .centred = true, .offset = 30},
    {.name = "layer_without_bias", .centred = true, .bias = false},
    {.name = "no_share", .share = false},
    {.name = "no_branch", .branch = false, .share = false},
    {.name = "one_row_of_two", .batch = 1, .length = 1, .width = 2},
    {.name = "narrow", .width = 66},
    {.name = "wide_384", .width = 384, .centred = true},
    {.name = "wide_768", .width = 768},
    {.name = "widest", .width = 1536, .centred = true},
    {.name = "wider_than_the_kernels", .width = 1540},
    {.name = "odd_width", .width = 33, .centred = true},
    {.name = "many_rows", .batch = 40, .length = 197},
};

struct Types {
  at::ScalarType x, y;
};

// x, branch, weight, bias; what is absent is undefined.
Tensors make_inputs(const BlockCase& c, const Types& types) {
  at::manual_seed(3);
  const auto normal = [&](at::IntArrayRef sizes, at::ScalarType dtype) {
    return at::randn(sizes, at::kDouble).to(dtype);
  };
  const std::vector<int64_t> rows = {c.batch, c.length, c.width};
  const auto wide = types.x == at::kDouble ? at::kDouble : at::kFloat;
  return {(normal(rows, at::kDouble) + c.offset).to(types.x),
          c.branch ? normal(rows, types.y) : at::Tensor(), normal({c.width}, wide),
          c.centred && c.bias ? normal({c.width}, wide) : at::Tensor()};
}

Tensors leaves(const Tensors& tensors, const std::function<at::Tensor(const at::Tensor&)>& as) {
  Tensors out;
  for (const at::Tensor& x : tensors) {
    out.push_back(x.defined() ? as(x.detach()).set_requires_grad(true) : x);
  }
  return out;
}

// {sum, y} in fp64; y of the sum rounded to what the operator keeps of it.
Tensors reference(const BlockCase& c, const Tensors& in, const at::Tensor& share,
                  at::ScalarType kept) {
  at::Tensor sum = in[0];
  if (in[1].defined()) {
    sum = sum + (share.defined() ? in[1] * share.view({-1, 1, 1}) : in[1]);
  }
  const at::Tensor rounded = sum + (sum.detach().to(kept).to(at::kDouble) - sum.detach());
  if (c.centred) {
    return {sum, at::layer_norm(rounded, {c.width}, in[2], in[3], 1e-6)};
  }
  return {sum, rounded * (rounded.square().mean(-1, true) + 1e-6).rsqrt() * in[2]};
}

struct Result {
  Tensors outputs, gradients;
};

Result differentiate(const Tensors& outputs, const Tensors& inputs, const Tensors& grads) {
  Tensors present, given;
  for (const at::Tensor& x : inputs) {
    if (x.defined()) {
      present.push_back(x);
    }
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    given.push_back(grads[i].to(outputs[i].options()));
  }
  return {outputs, torch::autograd::grad(outputs, present, given)};
}

void expect_matches(const BlockCase& c, const Types& types, at::Device device) {
  const Tensors in = make_inputs(c, types);
  const at::Tensor share = c.share ? at::rand({c.batch}, at::kDouble) * 2 : at::Tensor();
  const Tensors grads = {at::randn({c.batch, c.length, c.width}, at::kDouble).to(types.x),
                         at::randn({c.batch, c.length, c.width}, at::kDouble).to(types.y)};
  const auto run = [&] {
    const Tensors own = leaves(in, [&](const at::Tensor& x) { return x.to(device); });
    const at::Tensor factors = c.share ? share.to(at::kFloat).to(device) : at::Tensor();
    const AddNormOutputs out = add_norm({own[0], own[1], factors, own[2], own[3]},
                                        {.centred = c.centred, .dtype = types.y});
    return differentiate({out.sum, out.y}, own, grads);
  };
  const Result got = run(), again = run();
  const Tensors wide = leaves(in, [](const at::Tensor& x) { return x.to(at::kDouble); });
  const at::Tensor factors = c.share ? share.to(at::kFloat).to(at::kDouble) : share;
  const Result want = differentiate(reference(c, wide, factors, types.x), wide, grads);
  const double exact = types.x == at::kDouble ? 1e-12 : 1e-5 * (1 + c.offset);
  const auto bound = [&](const at::Tensor& x) {
    return x.scalar_type() == at::kBFloat16 ? 4e-3 : x.scalar_type() == at::kHalf ? 5e-4 : exact;
  };
  EXPECT_EQ(got.outputs[0].scalar_type(), types.x);
  EXPECT_EQ(got.outputs[1].scalar_type(), types.y);
  for (const auto& [mine, theirs, repeated] :
       {std::tie(got.outputs, want.outputs, again.outputs),
        std::tie(got.gradients, want.gradients, again.gradients)}) {
    ASSERT_EQ(mine.size(), theirs.size());
    for (size_t i = 0; i < mine.size(); ++i) {
      const bool gradient = &mine == &got.gradients;
      EXPECT_LE(relative_error(mine[i], theirs[i], 0), bound(mine[i]))
          << (gradient ? "gradient " : "output ") << i;
      EXPECT_TRUE(same_bits(mine[i], repeated[i])) << (gradient ? "gradient " : "output ") << i;
    }
  }
}

class AddNorm : public testing::TestWithParam<BlockCase> {};
TEST_P(AddNorm, MatchesItsFormulas) {
  expect_matches(GetParam(), {at::kDouble, at::kDouble}, at::kCPU);
  expect_matches(GetParam(), {at::kFloat, at::kFloat}, at::kCPU);
  expect_matches(GetParam(), {at::kFloat, at::kBFloat16}, at::kCPU);
}
INSTANTIATE_TEST_SUITE_P(All, AddNorm, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

class AddNormCuda : public testing::TestWithParam<BlockCase> {};
TEST_P(AddNormCuda, MatchesItsFormulas) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  for (const Types& types : {Types{at::kFloat, at::kFloat}, Types{at::kFloat, at::kBFloat16},
                             Types{at::kBFloat16, at::kBFloat16}, Types{at::kHalf, at::kHalf},
                             Types{at::kFloat, at::kHalf}, Types{at::kBFloat16, at::kFloat}}) {
    SCOPED_TRACE(std::string(c10::toString(types.x)) + " " + c10::toString(types.y));
    expect_matches(GetParam(), types, at::Device(at::kCUDA, 0));
  }
}
INSTANTIATE_TEST_SUITE_P(All, AddNormCuda, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

TEST(AddNormOperator, WithoutTheSumsGradientIsThatOfTheNorm) {
  const Tensors in = make_inputs({.name = "", .width = 8}, {at::kDouble, at::kDouble});
  const at::Tensor x = in[0].detach().set_requires_grad(true), &branch = in[1];
  const at::Tensor y = add_norm({x, branch, {}, in[2], {}}, {}).y;
  const at::Tensor grad = at::randn(y.sizes(), at::kDouble);
  const at::Tensor got = torch::autograd::grad({y}, {x}, {grad})[0];
  const double h = 1e-6;
  for (const int64_t at : {0, 13, 101}) {
    const auto value = [&](double step) {
      const at::Tensor moved = x.detach().clone();
      moved.view(-1)[at] += step;
      return (add_norm({moved, branch, {}, in[2], {}}, {}).y * grad).sum().item<double>();
    };
    EXPECT_NEAR(got.view(-1)[at].item<double>(), (value(h) - value(-h)) / (2 * h), 1e-7);
  }
}

TEST(AddNormOperator, NoRowsGiveNoRowsAndZeroGradients) {
  const at::Tensor x = at::randn({0, 4, 6}).set_requires_grad(true);
  const at::Tensor weight = at::randn({6}).set_requires_grad(true);
  const AddNormOutputs out = add_norm({x, x.detach(), {}, weight, {}}, {});
  EXPECT_EQ(out.y.sizes(), x.sizes());
  const Tensors gradients = torch::autograd::grad({out.y.sum()}, {x, weight});
  EXPECT_EQ(gradients[1].abs().sum().item<double>(), 0.0);
}

template <typename Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "nothing thrown";
}

TEST(BlockArguments, AreNamedWithWhatWasExpectedAndFound) {
  const at::Tensor x = at::randn({2, 3, 4}), weight = at::randn({4});
  const auto norm = [&](const AddNormInputs& in) { return message_of([&] { add_norm(in, {}); }); };
  EXPECT_NE(norm({x, x[0], {}, weight, {}}).find("branch: expected shape [2, 3, 4], got [3, 4]"),
            std::string::npos);
  EXPECT_NE(norm({x, {}, {}, at::randn({5}), {}}).find("weight: expected shape [4], got [5]"),
            std::string::npos);
  EXPECT_NE(norm({x, x, at::randn({3}), weight, {}}).find("share: expected shape [2], got [3]"),
            std::string::npos);
  EXPECT_NE(norm({x, {}, at::randn({2}), weight, {}}).find("share: expected a branch"),
            std::string::npos);
  EXPECT_NE(norm({x, {}, {}, weight, weight}).find("bias: only a centred norm has one"),
            std::string::npos);
  EXPECT_NE(norm({x.to(at::kLong), {}, {}, weight, {}}).find("x: expected a floating dtype"),
            std::string::npos);
  EXPECT_NE(message_of([&] {
              bias_gelu(x, at::randn({3}));
            }).find("bias: expected shape [f] = [4], got [3]"),
            std::string::npos);
}

struct GeluCase {
  std::string name;
  int64_t rows, width;
  bool bias;
};
void PrintTo(const GeluCase& c, std::ostream* out) { *out << c.name; }

void expect_gelu_matches(const GeluCase& c, at::ScalarType dtype, at::Device device) {
  at::manual_seed(4);
  const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
  const Tensors in = {(at::randn({c.rows, c.width}, at::kDouble) * 3).to(dtype),
                      c.bias ? at::randn({c.width}, at::kDouble).to(wide) : at::Tensor()};
  const Tensors grads = {at::randn({c.rows, c.width}, at::kDouble).to(dtype)};
  const auto run = [&] {
    const Tensors own = leaves(in, [&](const at::Tensor& x) { return x.to(device); });
    return differentiate({bias_gelu(own[0], own[1])}, own, grads);
  };
  const Result got = run(), again = run();
  const Tensors theirs = leaves(in, [](const at::Tensor& x) { return x.to(at::kDouble); });
  const Result want =
      differentiate({at::gelu(c.bias ? theirs[0] + theirs[1] : theirs[0])}, theirs, grads);
  const auto bound = [](const at::Tensor& x) {
    const auto kind = x.scalar_type();
    return kind == at::kDouble     ? 1e-14
           : kind == at::kBFloat16 ? 4e-3
           : kind == at::kHalf     ? 5e-4
                                   : 1e-6;
  };
  EXPECT_LE(relative_error(got.outputs[0], want.outputs[0], 0), bound(got.outputs[0]));
  for (size_t i = 0; i < got.gradients.size(); ++i) {
    EXPECT_LE(relative_error(got.gradients[i], want.gradients[i], 0), bound(got.gradients[i])) << i;
    EXPECT_TRUE(same_bits(got.gradients[i], again.gradients[i])) << i;
  }
}

const GeluCase kGeluCases[] = {{"usual", 197, 768, true},     {"no_bias", 197, 768, false},
                               {"one_row", 1, 8, true},       {"odd_width", 5, 13, true},
                               {"wide", 9, 3072, true},       {"many_rows", 5000, 40, true},
                               {"few_columns", 1000, 8, true}};

class BiasGelu : public testing::TestWithParam<GeluCase> {};
TEST_P(BiasGelu, MatchesGeluOfTheSum) {
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    expect_gelu_matches(GetParam(), dtype, at::kCPU);
  }
}
INSTANTIATE_TEST_SUITE_P(All, BiasGelu, testing::ValuesIn(kGeluCases),
                         [](const auto& info) { return info.param.name; });

class BiasGeluCuda : public testing::TestWithParam<GeluCase> {};
TEST_P(BiasGeluCuda, MatchesGeluOfTheSum) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    expect_gelu_matches(GetParam(), dtype, at::Device(at::kCUDA, 0));
  }
}
INSTANTIATE_TEST_SUITE_P(All, BiasGeluCuda, testing::ValuesIn(kGeluCases),
                         [](const auto& info) { return info.param.name; });

void expect_limits(at::Device device, at::ScalarType dtype) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor x = at::tensor({40.F, -40.F, 0.F, nan, 9.F, -9.F, 8192.F, -8192.F})
                           .to(dtype)
                           .to(device)
                           .set_requires_grad(true);
  const at::Tensor y = bias_gelu(x.view({1, 8}), {});
  const at::Tensor slope = torch::autograd::grad({y.sum()}, {x})[0].cpu().to(at::kDouble);
  const at::Tensor value = y.detach().cpu().to(at::kDouble).view(-1);
  const std::vector<double> values = {40, 0, 0, 0, 9, 0, 8192, 0},
                            slopes = {1, 0, .5, 0, 1, 0, 1, 0};
  for (int64_t i = 0; i < 8; ++i) {
    if (i == 3) {
      EXPECT_TRUE(std::isnan(value[i].item<double>()) && std::isnan(slope[i].item<double>()));
      continue;
    }
    const auto n = static_cast<size_t>(i);
    EXPECT_NEAR(value[i].item<double>(), values[n], 1e-3 * std::abs(values[n]) + 1e-6) << i;
    EXPECT_NEAR(slope[i].item<double>(), slopes[n], 1e-5) << i;
  }
}

TEST(BiasGeluOperator, FarFromZeroIsItsArgumentOrNothingAndKeepsNaN) {
  expect_limits(at::kCPU, at::kFloat);
  expect_limits(at::kCPU, at::kBFloat16);
  if (at::hasCUDA()) {
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      expect_limits(at::Device(at::kCUDA, 0), dtype);
    }
  }
}

void expect_column_sums(at::Device device, at::ScalarType dtype) {
  at::manual_seed(6);
  for (const auto& sizes : std::vector<std::vector<int64_t>>{
           {1, 8}, {3, 5, 24}, {4000, 40}, {2, 3, 13}, {9, 3072}, {0, 8}}) {
    const at::Tensor x = at::randn(sizes, at::kDouble).to(dtype).to(device);
    const at::Tensor want = x.cpu().to(at::kDouble).flatten(0, -2).sum(0);
    const at::Tensor got = column_sums(x);
    EXPECT_EQ(got.scalar_type(), dtype == at::kDouble ? at::kDouble : at::kFloat);
    EXPECT_LE((got.cpu().to(at::kDouble) - want).abs().max().item<double>(), 2e-4)
        << x.sizes() << " " << c10::toString(dtype);
    EXPECT_TRUE(same_bits(got, column_sums(x)));
  }
}

TEST(ColumnSums, AreThoseOfDouble) {
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    expect_column_sums(at::kCPU, dtype);
  }
}
TEST(ColumnSums, OnCudaAreThoseOfDouble) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    expect_column_sums(at::Device(at::kCUDA, 0), dtype);
  }
}

}  // namespace
}  // namespace comba::kernels::test
