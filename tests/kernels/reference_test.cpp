// The oracle itself: its gradients against finite differences, its values against a case done by
// hand.
#include "tests/kernels/reference.h"

#include "tests/kernels/compare.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

namespace comba::kernels::test {
namespace {

double loss(const ScanInputs& in, const OutputGradients& given) {
  const ScanValues out = reference_values(in);
  double sum = (out.o * given.o).sum().item<double>();
  return given.final_state.defined()
             ? sum + (out.final_state * given.final_state).sum().item<double>()
             : sum;
}

void expect_gradients_are_finite_differences(const ScanCase& s) {
  ScanInputs in = make_inputs(s, at::kDouble);
  const OutputGradients given = make_output_gradients(s, in);
  const auto gradients =
      tensors_of(OperatorResult{{}, reference_gradients(in, given.o, given.final_state)});
  constexpr double kStep = 1e-5;
  size_t index = 2;  // after o and final_state
  for (auto& [name, x] : tensors_of(in)) {
    const at::Tensor& gradient = gradients[index++].second;
    if (!x->defined()) {
      continue;
    }
    for (int64_t i = 0; i < x->numel(); ++i) {
      double& value = x->data_ptr<double>()[i];
      const double kept = value;
      value = kept + kStep;
      const double above = loss(in, given);
      value = kept - kStep;
      const double below = loss(in, given);
      value = kept;
      const double found = gradient.contiguous().data_ptr<double>()[i];
      ASSERT_NEAR(found, (above - below) / (2 * kStep), 2e-8 * (1 + std::abs(found)))
          << name << " " << i;
    }
  }
}

TEST(Reference, GradientsAreFiniteDifferencesOfTheRecurrence) {
  for (const bool decayed : {false, true}) {
    for (const bool reverse : {false, true}) {
      expect_gradients_are_finite_differences({.length = 5,
                                               .key_dim = 3,
                                               .value_dim = 2,
                                               .decayed_feedback = decayed,
                                               .reverse = reverse});
    }
  }
}

TEST(Reference, BidirectionalGradientsAreFiniteDifferences) {
  for (const char* merge : {"mean", "sum", "none"}) {
    for (const bool own : {false, true}) {
      expect_gradients_are_finite_differences({.length = 3,
                                               .key_dim = 2,
                                               .value_dim = 3,
                                               .merge = merge,
                                               .own_rows = own,
                                               .own_d = own});
    }
  }
}

// One channel each: S_0 = 2, alpha = 1/2, k = 1, v = 3, beta = 1, c = 1/2, q = 1, d = 1/4, scale
// = 2.
TEST(Reference, ValuesOfOneTokenDoneByHand) {
  const auto cell = [](double value) { return at::full({1, 1, 1}, value, at::kDouble); };
  ScanInputs in{cell(1).unsqueeze(3),
                cell(1).unsqueeze(3),
                cell(3).unsqueeze(3),
                cell(std::log(0.5)),
                cell(1),
                cell(0.5),
                at::full({1}, 0.25, at::kDouble),
                cell(2).unsqueeze(3)};
  in.scale = 2;
  const ScanValues undecayed =
      reference_values(in);  // u = 3 - 1 = 2, S = 1 + 2 = 3, o = 2 * 3 * 0.75
  EXPECT_DOUBLE_EQ(undecayed.final_state.item<double>(), 3.0);
  EXPECT_DOUBLE_EQ(undecayed.o.item<double>(), 4.5);
  in.decayed_feedback = true;
  const ScanValues decayed =
      reference_values(in);  // u = 3 - 0.5 = 2.5, S = 1 + 2.5, o = 2 * 3.5 * 0.75
  EXPECT_DOUBLE_EQ(decayed.final_state.item<double>(), 3.5);
  EXPECT_DOUBLE_EQ(decayed.o.item<double>(), 5.25);
}

}  // namespace
}  // namespace comba::kernels::test
