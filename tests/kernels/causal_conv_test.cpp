// comba::causal_conv against LibTorch's depthwise convolution in fp64 under autograd, and finite differences.
#include "kernels/block/causal_conv.h"

#include "tests/kernels/compare.h"

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace comba::kernels::test {
namespace {

using Tensors = std::vector<at::Tensor>;

struct ConvCase {
  std::string name;
  int64_t batch = 2, length = 19, channels = 40, taps = 4;
  bool bias = true;
  CausalConvOptions options = {.silu = true};
  int64_t before = 0, after = 0;  // columns of the rows that x is a part of
};
void PrintTo(const ConvCase& c, std::ostream* out) { *out << c.name; }

const ConvCase kCases[] = {
    {.name = "usual"},
    {.name = "reverse", .options = {.silu = true, .reverse = true}},
    {.name = "plain", .options = {}},
    {.name = "plain_reverse", .bias = false, .options = {.reverse = true}},
    {.name = "no_bias", .bias = false},
    {.name = "one_tap", .taps = 1},
    {.name = "three_taps", .taps = 3, .options = {.silu = true, .reverse = true}},
    {.name = "more_taps_than_the_kernel", .taps = 6},
    {.name = "one_token", .batch = 1, .length = 1},
    {.name = "fewer_tokens_than_taps", .length = 2, .options = {.silu = true, .reverse = true}},
    {.name = "one_token_more_than_a_span", .length = 33},
    {.name = "odd_width", .channels = 13},
    {.name = "part_of_wider_rows", .before = 8, .after = 16},
    {.name = "not_aligned", .before = 1, .after = 3},
    {.name = "vision", .batch = 3, .length = 197, .channels = 384},
    {.name = "vision_reverse",
     .batch = 3,
     .length = 257,
     .channels = 192,
     .options = {.silu = true, .reverse = true}},
    {.name = "many_rows", .batch = 150, .length = 65, .channels = 72},
};

// x as a part of rows, weight, bias or undefined; fp64 numbers that `dtype` holds.
Tensors make_inputs(const ConvCase& c, at::ScalarType dtype) {
  at::manual_seed(11);
  const auto normal = [](at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble); };
  const at::Tensor rows = normal({c.batch, c.length, c.before + c.channels + c.after});
  const auto parameter = dtype == at::kDouble ? at::kDouble : at::kFloat;
  return {rows.to(dtype).to(at::kDouble),
          normal({c.channels, c.taps}).to(parameter).to(at::kDouble),
          c.bias ? normal({c.channels}).to(parameter).to(at::kDouble) : at::Tensor()};
}

at::Tensor part_of(const at::Tensor& rows, const ConvCase& c) {
  return rows.narrow(2, c.before, c.channels);
}

at::Tensor by_definition(const Tensors& in, const ConvCase& c) {
  constexpr int64_t kOne[] = {1}, kNone[] = {0};
  const at::Tensor x = part_of(in[0], c).transpose(1, 2);
  const at::Tensor ordered = c.options.reverse ? at::flip(x, {2}) : x;
  const at::Tensor u =
      at::conv1d(at::constant_pad_nd(ordered, {c.taps - 1, 0}), in[1].unsqueeze(1), in[2],
                 at::IntArrayRef(kOne), at::IntArrayRef(kNone), at::IntArrayRef(kOne), c.channels);
  const at::Tensor y = c.options.silu ? at::silu(u) : u;
  return (c.options.reverse ? at::flip(y, {2}) : y).transpose(1, 2);
}

// y and the gradients of a fixed weighting of it.
Tensors with_gradients(const Tensors& leaves,
                       const std::function<at::Tensor(const Tensors&)>& conv) {
  const at::Tensor y = conv(leaves);
  at::manual_seed(12);
  const at::Tensor given = at::randn(y.sizes(), at::kDouble).to(at::kBFloat16).to(y.options());
  Tensors inputs;
  for (const at::Tensor& x : leaves) {
    if (x.defined()) {
      inputs.push_back(x);
    }
  }
  Tensors out = {y.detach()};
  for (const at::Tensor& gradient : torch::autograd::grad({y}, inputs, {given.detach()})) {
    out.push_back(gradient);
  }
  return out;
}

void expect_matches(const ConvCase& c, at::Device device, at::ScalarType dtype) {
  SCOPED_TRACE(c10::toString(dtype));
  const Tensors exact = make_inputs(c, dtype);
  const auto leaves = [&](at::Device where, at::ScalarType rows, at::ScalarType parameters) {
    Tensors out;
    for (size_t i = 0; i < exact.size(); ++i) {
      out.push_back(
          exact[i].defined()
              ? exact[i].to(where, i == 0 ? rows : parameters).clone().set_requires_grad(true)
              : at::Tensor());
    }
    return out;
  };
  const auto parameters = dtype == at::kDouble ? at::kDouble : at::kFloat;
  const auto run = [&] {
    return with_gradients(leaves(device, dtype, parameters), [&](const Tensors& in) {
      return causal_conv(part_of(in[0], c), in[1], in[2], c.options);
    });
  };
  const Tensors got = run(), again = run();
  const Tensors want = with_gradients(leaves(at::kCPU, at::kDouble, at::kDouble),
                                      [&](const Tensors& in) { return by_definition(in, c); });
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const auto kind = got[i].scalar_type();
    const double bound = kind == at::kDouble     ? 1e-13
                         : kind == at::kBFloat16 ? 4e-3
                         : kind == at::kHalf     ? 5e-4
                                                 : 1e-6;
    EXPECT_LE(relative_error(got[i], want[i], 0), bound) << i;
    EXPECT_TRUE(same_bits(got[i], again[i])) << i;
  }
}

class CausalConv : public testing::TestWithParam<ConvCase> {};
TEST_P(CausalConv, IsLibTorchsDepthwiseConvolution) {
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    expect_matches(GetParam(), at::kCPU, dtype);
  }
}
INSTANTIATE_TEST_SUITE_P(All, CausalConv, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

class CausalConvCuda : public testing::TestWithParam<ConvCase> {};
TEST_P(CausalConvCuda, IsLibTorchsDepthwiseConvolution) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    expect_matches(GetParam(), at::Device(at::kCUDA, 0), dtype);
  }
}
INSTANTIATE_TEST_SUITE_P(All, CausalConvCuda, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

TEST(CausalConvOperator, GradientsAreThoseOfFiniteDifferences) {
  at::manual_seed(13);
  constexpr double kStep = 1e-5;
  for (const bool reverse : {false, true}) {
    const auto normal = [](at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble); };
    const at::Tensor probe = normal({2, 5, 3});
    const Tensors in = {normal({2, 5, 3}), normal({3, 4}), normal({3})};
    const auto loss = [&](const Tensors& x) {
      return (causal_conv(x[0], x[1], x[2], {.silu = true, .reverse = reverse}) * probe).sum();
    };
    Tensors leaves;
    for (const at::Tensor& x : in) {
      leaves.push_back(x.clone().set_requires_grad(true));
    }
    const Tensors gradients = torch::autograd::grad({loss(leaves)}, leaves);
    for (size_t i = 0; i < in.size(); ++i) {
      for (int64_t n = 0; n < in[i].numel(); ++n) {
        const auto moved = [&](double by) {
          Tensors out = in;
          out[i] = in[i].clone();
          out[i].view(-1)[n] += by;
          return loss(out).item<double>();
        };
        const double slope = (moved(kStep) - moved(-kStep)) / (2 * kStep);
        EXPECT_NEAR(gradients[i].reshape(-1)[n].item<double>(), slope, 1e-8) << i << " " << n;
      }
    }
  }
}

TEST(CausalConvOperator, NoTokenSeesTheFuture) {
  at::manual_seed(3);
  const at::Tensor x = at::randn({1, 8, 2}), weight = at::randn({2, 4});
  const auto changed = [&](int64_t first) {
    at::Tensor other = x.clone();
    other.narrow(1, first, 3).add_(1.0);
    return other;
  };
  const auto part = [&](const at::Tensor& in, bool reverse) {
    return causal_conv(in, weight, {}, {.reverse = reverse}).narrow(1, reverse ? 3 : 0, 5);
  };
  EXPECT_TRUE(at::equal(part(x, false), part(changed(5), false)));
  EXPECT_TRUE(at::equal(part(x, true), part(changed(0), true)));
}

TEST(CausalConvOperator, NothingGivesNothingAndGradientsOfZero) {
  const at::Tensor weight = at::randn({3, 4}).set_requires_grad(true),
                   bias = at::randn({3}).set_requires_grad(true);
  for (const auto& [batch, length] : {std::pair(0, 5), std::pair(2, 0)}) {
    const at::Tensor x = at::zeros({batch, length, 3});
    const at::Tensor y = causal_conv(x, weight, bias, {.silu = true});
    EXPECT_EQ(y.sizes(), x.sizes());
    for (const at::Tensor& gradient : torch::autograd::grad({y.sum()}, {weight, bias})) {
      EXPECT_TRUE(at::equal(gradient, at::zeros_like(gradient)));
    }
  }
}

TEST(CausalConvOperator, BadArgumentsAreRefusedByNameExpectedAndGot) {
  const at::Tensor x = at::randn({2, 5, 4}), weight = at::randn({4, 3});
  const auto refused = [](const at::Tensor& rows, const at::Tensor& taps, const at::Tensor& bias) {
    try {
      causal_conv(rows, taps, bias);
    } catch (const c10::Error& e) {
      return std::string(e.what_without_backtrace());
    }
    return std::string();
  };
  const auto has = [](const std::string& message, const char* part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  has(refused(x[0], weight, {}), "x: expected shape [B, T, C], got [5, 4]");
  has(refused(x.to(at::kLong), weight, {}), "x: expected a floating dtype, got Long");
  has(refused(x, at::randn({3, 4}), {}),
      "weight: expected shape [C, taps] = [4, 1 or more], got [3, 4]");
  has(refused(x, at::randn({4, 0}), {}), "got [4, 0]");
  has(refused(x, weight.to(at::kInt), {}), "weight: expected a floating dtype, got Int");
  has(refused(x, weight, at::randn({3})), "bias: expected shape [C] = [4], got [3]");
}

}  // namespace
}  // namespace comba::kernels::test
