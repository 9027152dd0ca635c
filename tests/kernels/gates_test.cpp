// The gates' operator against its formulas in fp64, composed of LibTorch operations under autograd, and finite differences.
#include "kernels/gates.h"

#include "tests/kernels/compare.h"

#include <string>
#include <utility>
#include <vector>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log1p.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace comba::kernels::test {
namespace {

struct GateCase {
  const char* name;
  int64_t batch = 2, length = 19, directions = 2, heads = 3;
  bool decay = true;
  double feedback = 1, spread = 2;
};
void PrintTo(const GateCase& c, std::ostream* out) { *out << c.name; }

const GateCase kCases[] = {
    {.name = "usual"},
    {.name = "one_direction_no_decay", .directions = 1, .decay = false},
    {.name = "doubled_feedback", .feedback = 2},
    {.name = "one_head_one_token", .batch = 1, .length = 1, .heads = 1},
    {.name = "many_heads", .length = 5, .heads = 70},
    {.name = "many_tokens", .batch = 9, .length = 400},
    {.name = "far_from_zero", .spread = 60},
};

GateInputs make_gate_inputs(const GateCase& c, at::ScalarType dtype) {
  at::manual_seed(5);
  const auto wide = at::TensorOptions().dtype(at::kDouble);
  const auto normal = [&](at::IntArrayRef sizes) {
    return at::randn(sizes, wide).to(dtype).to(at::kDouble);
  };
  const std::vector<int64_t> heads = {c.directions, c.heads};
  GateInputs in{normal({c.batch, c.length, 2, c.directions, c.heads}) * c.spread, normal(heads),
                normal(heads), c.decay ? normal(heads) : at::Tensor(), c.feedback};
  in.raw = in.raw.to(dtype);
  return in;
}

// Leaves of this device and dtype (that of raw is kept).
GateInputs leaves(const GateInputs& in, at::Device device, at::ScalarType parameters,
                  at::ScalarType raw) {
  const auto leaf = [&](const at::Tensor& x, at::ScalarType dtype) {
    return x.defined() ? x.detach().to(device).to(dtype).set_requires_grad(true) : x;
  };
  return {leaf(in.raw, raw), leaf(in.A_log, parameters), leaf(in.dt_bias, parameters),
          leaf(in.decay, parameters), in.feedback};
}

ScanGates reference(const GateInputs& in) {
  const auto per_head = [](const at::Tensor& x) { return x.unsqueeze(1).unsqueeze(1); };
  const at::Tensor raw = in.raw.permute({2, 3, 0, 1, 4});
  const at::Tensor a = raw[0] + per_head(in.dt_bias);
  const at::Tensor softplus = at::log1p(at::exp(a));  // no case reaches exp(700)
  ScanGates gates;
  gates.log_alpha = -per_head(in.A_log.exp()) * softplus;
  gates.beta = 1 / (1 + at::exp(-raw[1]));
  gates.c = gates.beta * in.feedback;
  if (in.decay.defined()) {
    gates.c = gates.c / (1 + at::exp(-per_head(in.decay)));
  }
  return gates;
}

struct GateResult {
  ScanGates gates;
  std::vector<at::Tensor> gradients;  // raw, A_log, dt_bias, decay
};

template <typename Run>
GateResult with_gradients(const GateInputs& in, const std::vector<at::Tensor>& grads,
                          const Run& run) {
  const ScanGates gates = run(in);
  std::vector<at::Tensor> inputs = {in.raw, in.A_log, in.dt_bias}, outer;
  if (in.decay.defined()) {
    inputs.push_back(in.decay);
  }
  for (const at::Tensor& grad : grads) {
    outer.push_back(grad.to(gates.beta.options()));
  }
  return {gates, torch::autograd::grad({gates.log_alpha, gates.beta, gates.c}, inputs, outer)};
}

void expect_gates_match(const GateCase& c, at::ScalarType dtype, at::Device device) {
  const GateInputs in = make_gate_inputs(c, dtype);
  std::vector<at::Tensor> grads;
  for (int i = 0; i < 3; ++i) {
    grads.push_back(at::randn({c.directions, c.batch, c.length, c.heads}, at::kDouble));
  }
  const auto parameters = dtype == at::kDouble ? at::kDouble : at::kFloat;
  const auto run = [&] {
    return with_gradients(leaves(in, device, parameters, dtype), grads, gates);
  };
  const GateResult got = run(), again = run(),
                   want = with_gradients(leaves(in, at::kCPU, at::kDouble, at::kDouble), grads,
                                         reference);
  const double bound = dtype == at::kDouble ? 1e-13 : 2e-6;
  EXPECT_EQ(got.gates.beta.scalar_type(), parameters);
  EXPECT_LE(relative_error(got.gates.log_alpha, want.gates.log_alpha, 1e-37), bound);
  EXPECT_LE(relative_error(got.gates.beta, want.gates.beta, 1e-37), bound);
  EXPECT_LE(relative_error(got.gates.c, want.gates.c, 1e-37), bound);
  ASSERT_EQ(got.gradients.size(), want.gradients.size());
  for (size_t i = 0; i < got.gradients.size(); ++i) {
    const bool rounded = i == 0 && dtype == at::kBFloat16;
    EXPECT_LE(relative_error(got.gradients[i], want.gradients[i], 1e-37), rounded ? 4e-3 : bound)
        << "gradient " << i;
    EXPECT_TRUE(same_bits(got.gradients[i], again.gradients[i])) << "gradient " << i;
  }
}

class GateOperator : public testing::TestWithParam<GateCase> {};
TEST_P(GateOperator, MatchesItsFormulasInDouble) {
  expect_gates_match(GetParam(), at::kDouble, at::kCPU);
}
TEST_P(GateOperator, MatchesItsFormulasInFloat) {
  expect_gates_match(GetParam(), at::kFloat, at::kCPU);
}
INSTANTIATE_TEST_SUITE_P(All, GateOperator, testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param.name); });

class GateOperatorCuda : public testing::TestWithParam<GateCase> {};
TEST_P(GateOperatorCuda, MatchesItsFormulas) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    expect_gates_match(GetParam(), dtype, at::Device(at::kCUDA, 0));
  }
}
INSTANTIATE_TEST_SUITE_P(All, GateOperatorCuda, testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param.name); });

void expect_same_of_rows_apart(at::Device device) {
  for (const auto& [batch, length] : {std::pair<int64_t, int64_t>{3, 7}, {1, 7}, {3, 1}, {1, 1}}) {
    const GateCase c{.name = "", .batch = batch, .length = length};
    const GateInputs dense =
        leaves(make_gate_inputs(c, at::kFloat), device, at::kFloat, at::kFloat);
    GateInputs apart = dense;
    const at::Tensor padded = at::cat(
        {dense.raw.detach().flatten(2), at::full({batch, length, 4}, 9.F, dense.raw.options())}, 2);
    apart.raw = padded.narrow(2, 0, 12).view(dense.raw.sizes()).set_requires_grad(true);
    const std::vector<at::Tensor> grads(3, at::randn({2, batch, length, 3}, at::kDouble));
    const GateResult got = with_gradients(apart, grads, gates),
                     want = with_gradients(dense, grads, gates);
    EXPECT_TRUE(same_bits(got.gates.log_alpha, want.gates.log_alpha));
    EXPECT_TRUE(same_bits(got.gates.beta, want.gates.beta));
    for (size_t i = 0; i < want.gradients.size(); ++i) {
      EXPECT_TRUE(same_bits(got.gradients[i], want.gradients[i])) << "gradient " << i;
    }
  }
}

TEST(GateOperator, RowsOfTokensMayLieApart) { expect_same_of_rows_apart(at::kCPU); }
TEST(GateOperator, OnCudaRowsOfTokensMayLieApart) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  expect_same_of_rows_apart(at::Device(at::kCUDA, 0));
}

TEST(GateOperator, NoTokensGiveEmptyGatesAndZeroGradients) {
  const GateCase none{.name = "", .length = 0};
  const GateInputs in =
      leaves(make_gate_inputs(none, at::kFloat), at::kCPU, at::kFloat, at::kFloat);
  const GateResult result =
      with_gradients(in, std::vector<at::Tensor>(3, at::randn({2, 2, 0, 3}, at::kDouble)), gates);
  EXPECT_EQ(result.gates.c.sizes(), (std::vector<int64_t>{2, 2, 0, 3}));
  EXPECT_EQ(result.gradients[1].abs().sum().item<double>(), 0.0);
}

TEST(GateOperator, ExtremeLogitsGiveTheLimits) {
  GateInputs in = make_gate_inputs({.name = ""}, at::kFloat);
  in.raw = at::full({1, 1, 2, 2, 3}, 3e38F);
  EXPECT_TRUE(gates(in).log_alpha.lt(-1e37).all().item<bool>());  // -inf where A_log is large
  EXPECT_TRUE(gates(in).beta.eq(1).all().item<bool>());
  in.raw = -in.raw;
  EXPECT_TRUE(gates(in).log_alpha.eq(0).all().item<bool>());
  EXPECT_TRUE(gates(in).beta.eq(0).all().item<bool>());
}

TEST(GateArguments, AreNamedWithWhatWasExpectedAndFound) {
  const auto message = [](const auto& spoil) {
    GateInputs in = make_gate_inputs({.name = ""}, at::kFloat);
    spoil(in);
    try {
      gates(in);
    } catch (const c10::Error& error) {
      return std::string(error.what_without_backtrace());
    }
    return std::string();
  };
  EXPECT_NE(
      message([](GateInputs& in) {
        in.raw = in.raw[0];
      }).find("raw: expected shape [B, T, 2, R, H] with 1 or 2 directions R, got [19, 2, 2, 3]"),
      std::string::npos);
  EXPECT_NE(message([](GateInputs& in) {
              in.A_log = in.A_log[0];
            }).find("A_log: expected shape [R, H] = [2, 3], got [3]"),
            std::string::npos);
  EXPECT_NE(message([](GateInputs& in) {
              in.decay = in.decay.to(at::kLong);
            }).find("decay: expected a floating dtype, got Long"),
            std::string::npos);
}

}  // namespace
}  // namespace comba::kernels::test
