// A block's MLP against LibTorch's operators in fp64 under autograd, and finite differences; patches as rows; joined columns.
#include "kernels/block/mlp.h"

#include "kernels/block/join_columns.h"
#include "kernels/block/patch_rows.h"
#include "tests/kernels/compare.h"

#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace comba::kernels::test {
namespace {

using Tensors = std::vector<at::Tensor>;

struct MlpCase {
  std::string name;
  std::vector<int64_t> sizes;  // of the tokens but for the width
  int64_t hidden = 768, width = 192;
  bool bias1 = true, bias2 = true;
};
void PrintTo(const MlpCase& c, std::ostream* out) { *out << c.name; }

const MlpCase kCases[] = {
    {.name = "usual", .sizes = {3, 197}},
    {.name = "no_biases", .sizes = {3, 197}, .bias1 = false, .bias2 = false},
    {.name = "first_bias", .sizes = {2, 70}, .bias2 = false},
    {.name = "second_bias", .sizes = {2, 70}, .bias1 = false},
    {.name = "one_row", .sizes = {1}},
    {.name = "one_chunk", .sizes = {150}, .hidden = 64},
    {.name = "two_chunks", .sizes = {2, 64}, .hidden = 128},
    {.name = "a_row_more_than_a_tile", .sizes = {129}, .hidden = 256},
    {.name = "a_row_more_than_two_tiles", .sizes = {257}, .hidden = 192},
    {.name = "many_tiles", .sizes = {7, 7001}, .hidden = 192, .bias1 = false},
    {.name = "one_chunk_many_tiles", .sizes = {40000}, .hidden = 64},
    {.name = "odd_hidden", .sizes = {2, 9}, .hidden = 100},
    {.name = "wider", .sizes = {2, 9}, .hidden = 256, .width = 384},
};

// x, weight1, bias1, weight2, bias2; what is absent is undefined.
Tensors make_inputs(const MlpCase& c, at::ScalarType dtype) {
  at::manual_seed(8);
  const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
  const auto normal = [](at::IntArrayRef sizes, double size) {
    return at::randn(sizes, at::kDouble) * size;
  };
  std::vector<int64_t> sizes = c.sizes;
  sizes.push_back(c.width);
  return {normal(sizes, 1).to(dtype),
          normal({c.hidden, c.width}, 1.5 / std::sqrt(c.width)).to(wide),
          c.bias1 ? normal({c.hidden}, 0.5).to(wide) : at::Tensor(),
          normal({c.width, c.hidden}, 1 / std::sqrt(c.hidden)).to(wide),
          c.bias2 ? normal({c.width}, 0.5).to(wide) : at::Tensor()};
}

Tensors leaves(const Tensors& tensors, const std::function<at::Tensor(const at::Tensor&)>& as) {
  Tensors out;
  for (const at::Tensor& x : tensors) {
    out.push_back(x.defined() ? as(x.detach()).set_requires_grad(true) : x);
  }
  return out;
}

// y, then the gradients of what is defined of `in`.
Tensors differentiate(const at::Tensor& y, const Tensors& in, const at::Tensor& grad) {
  Tensors present;
  for (const at::Tensor& x : in) {
    if (x.defined()) {
      present.push_back(x);
    }
  }
  Tensors out = torch::autograd::grad({y}, present, {grad.to(y.options())});
  out.insert(out.begin(), y.detach());
  return out;
}

void expect_matches(const MlpCase& c, at::ScalarType dtype, at::Device device) {
  const Tensors in = make_inputs(c, dtype);
  const at::Tensor grad = at::randn(in[0].sizes(), at::kDouble).to(dtype);
  const auto run = [&] {
    const Tensors own = leaves(in, [&](const at::Tensor& x) { return x.to(device); });
    return differentiate(mlp({own[0], own[1], own[2], own[3], own[4]}), own, grad);
  };
  const Tensors got = run(), again = run();
  // Weights as the products take them.
  const Tensors exact = leaves(
      in, [&](const at::Tensor& x) { return (x.dim() > 1 ? x.to(dtype) : x).to(at::kDouble); });
  const Tensors want = differentiate(
      at::linear(at::gelu(at::linear(exact[0], exact[1], exact[2])), exact[3], exact[4]), exact,
      grad);
  const double bound = dtype == at::kDouble     ? 1e-13
                       : dtype == at::kBFloat16 ? 6e-3
                       : dtype == at::kHalf     ? 8e-4
                                                : 2e-5;
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].sizes(), want[i].sizes()) << i;
    EXPECT_LE(relative_error(got[i], want[i], 0), bound) << (i == 0 ? "y" : "gradient ") << i;
    EXPECT_TRUE(same_bits(got[i], again[i])) << (i == 0 ? "y" : "gradient ") << i;
    // The largest error, as a wrong row or column hides in the mean of all.
    const double most = (got[i].cpu().to(at::kDouble) - want[i]).abs().max().item<double>();
    EXPECT_LE(most, 20 * bound * want[i].square().mean().sqrt().item<double>() + 1e-12)
        << (i == 0 ? "y" : "gradient ") << i;
  }
}

class Mlp : public testing::TestWithParam<MlpCase> {};
TEST_P(Mlp, MatchesItsFormula) {
  if (GetParam().name.find("many") == std::string::npos) {
    for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
      expect_matches(GetParam(), dtype, at::kCPU);
    }
  }
}
INSTANTIATE_TEST_SUITE_P(All, Mlp, testing::ValuesIn(kCases),
                         [](const auto& test) { return test.param.name; });

class MlpCuda : public testing::TestWithParam<MlpCase> {};
TEST_P(MlpCuda, MatchesItsFormula) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  for (const auto dtype : {at::kBFloat16, at::kHalf, at::kFloat}) {
    SCOPED_TRACE(c10::toString(dtype));
    expect_matches(GetParam(), dtype, at::Device(at::kCUDA, 0));
  }
}
INSTANTIATE_TEST_SUITE_P(All, MlpCuda, testing::ValuesIn(kCases),
                         [](const auto& test) { return test.param.name; });

TEST(MlpOperator, GradientsAreThoseOfFiniteDifferences) {
  const Tensors in = make_inputs({.name = "", .sizes = {5}, .hidden = 6, .width = 4}, at::kDouble);
  const at::Tensor grad = at::randn({5, 4}, at::kDouble);
  const auto value = [&](const Tensors& at) {
    return (mlp({at[0], at[1], at[2], at[3], at[4]}) * grad).sum();
  };
  const Tensors own = leaves(in, [](const at::Tensor& x) { return x.clone(); });
  const Tensors got = torch::autograd::grad({value(own)}, own);
  const double h = 1e-6;
  for (size_t n = 0; n < in.size(); ++n) {
    for (int64_t i = 0; i < in[n].numel(); i += 3) {
      const auto moved = [&](double by) {
        Tensors there = in;
        there[n] = in[n].clone();
        there[n].view(-1)[i] += by;
        return value(there).item<double>();
      };
      EXPECT_NEAR(got[n].reshape(-1)[i].item<double>(), (moved(h) - moved(-h)) / (2 * h), 1e-7)
          << n << " " << i;
    }
  }
}

TEST(MlpOperator, ArgumentsAreNamedWithWhatWasExpectedAndFound) {
  const at::Tensor x = at::randn({2, 3, 4});
  const auto message = [&](const MlpInputs& in) -> std::string {
    try {
      mlp(in);
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "nothing thrown";
  };
  const auto expect = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  expect(message({x, at::randn({8, 5}), {}, at::randn({4, 8}), {}}),
         "weight1: expected shape [8, 4], got [8, 5]");
  expect(message({x, at::randn({8, 4}), {}, at::randn({4, 7}), {}}),
         "weight2: expected shape [4, 8], got [4, 7]");
  expect(message({x, at::randn({8, 4}), at::randn({4}), at::randn({4, 8}), {}}),
         "bias1: expected shape [8], got [4]");
  expect(message({x, at::randn({8, 4}), {}, at::randn({4, 8}), at::randn({8})}),
         "bias2: expected shape [4], got [8]");
  expect(message({x.to(at::kLong), at::randn({8, 4}), {}, at::randn({4, 8}), {}}),
         "x: expected [..., d] of a floating dtype");
}

// One token that is not finite spoils its own results only.
TEST(MlpOperator, OnCudaNaNStaysInItsRow) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  const Tensors in = make_inputs({.name = "", .sizes = {300}}, at::kBFloat16);
  at::Tensor x = in[0].clone();
  x[130].fill_(std::numeric_limits<float>::quiet_NaN());
  const auto run = [&](const at::Tensor& rows) {
    return mlp({rows.cuda(), in[1].cuda(), in[2].cuda(), in[3].cuda(), in[4].cuda()}).cpu();
  };
  const at::Tensor clean = run(in[0]), spoilt = run(x);
  EXPECT_TRUE(spoilt[130].isnan().all().item<bool>());
  EXPECT_TRUE(at::equal(spoilt.narrow(0, 0, 130), clean.narrow(0, 0, 130)));
  EXPECT_TRUE(at::equal(spoilt.narrow(0, 131, 169), clean.narrow(0, 131, 169)));
}

void expect_patches(at::Device device) {
  at::manual_seed(9);
  for (const auto& sizes : std::vector<std::vector<int64_t>>{
           {2, 3, 32, 48}, {1, 1, 16, 16}, {3, 3, 224, 224}, {0, 3, 16, 16}, {2, 3, 8, 24}}) {
    const at::Tensor images = at::randn(sizes).to(device);
    for (const int64_t patch : {16, 8, 4}) {
      if (sizes[2] % patch != 0 || sizes[3] % patch != 0) {
        continue;
      }
      for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
        const at::Tensor rows = patch_rows(images, patch, dtype);
        const int64_t high = sizes[2] / patch, broad = sizes[3] / patch;
        // Back to images.
        const at::Tensor back = rows.view({sizes[0], high, broad, sizes[1], patch, patch})
                                    .permute({0, 3, 1, 4, 2, 5})
                                    .reshape(sizes);
        EXPECT_EQ(rows.scalar_type(), dtype);
        EXPECT_TRUE(at::equal(back, images.to(dtype))) << images.sizes() << " " << patch;
      }
    }
  }
}

TEST(PatchRows, AreThePixels) { expect_patches(at::kCPU); }
TEST(PatchRows, OnCudaAreThePixels) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  expect_patches(at::Device(at::kCUDA, 0));
}
TEST(PatchRows, HaveGradients) {
  for (const bool cuda : {false, true}) {
    if (cuda && !at::hasCUDA()) {
      continue;
    }
    const at::Tensor images =
        at::randn({2, 3, 16, 32}).to(cuda ? at::kCUDA : at::kCPU).set_requires_grad(true);
    const at::Tensor rows = patch_rows(images, 8, at::kFloat);
    const at::Tensor got = torch::autograd::grad({(rows * rows).sum()}, {images})[0];
    EXPECT_TRUE(at::equal(got, 2 * images.detach()));
  }
}

void expect_joined(at::Device device) {
  at::manual_seed(10);
  for (const auto& [rows, first, second] : std::vector<std::array<int64_t, 3>>{
           {5, 24, 12}, {1000, 24, 12}, {7, 8, 8}, {3, 16, 1}, {4, 7, 5}, {0, 8, 3}, {2, 48, 0}}) {
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const at::Tensor a = at::randn({rows, first}).to(device).to(dtype),
                       b = at::randn({rows, second}).to(device);
      const at::Tensor got = join_columns(a, b, 8);
      const int64_t all = first + second;
      EXPECT_EQ(got.size(1), (all + 7) / 8 * 8);
      EXPECT_TRUE(at::equal(got.narrow(1, 0, first), a));
      EXPECT_TRUE(at::equal(got.narrow(1, first, second), b.to(dtype)));
      EXPECT_EQ(got.narrow(1, all, got.size(1) - all).abs().sum().item<double>(), 0.0);
    }
  }
}

TEST(JoinColumns, AreBothAndZeros) { expect_joined(at::kCPU); }
TEST(JoinColumns, OnCudaAreBothAndZeros) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  expect_joined(at::Device(at::kCUDA, 0));
}

}  // namespace
}  // namespace comba::kernels::test
