// Both operators on the CPU against the oracle: values, final state and every gradient.
#include "tests/kernels/compare.h"

#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

namespace comba::kernels::test {
namespace {

class ScanOracle : public testing::TestWithParam<ScanCase> {};

TEST_P(ScanOracle, Float32Matches) {
  expect_matches_reference(GetParam(), make_inputs(GetParam(), at::kFloat), at::kCPU);
}
TEST_P(ScanOracle, Float64Matches) {
  expect_matches_reference(GetParam(), make_inputs(GetParam(), at::kDouble), at::kCPU);
}

const auto kNames = [](const auto& info) { return name_of(info.param); };
INSTANTIATE_TEST_SUITE_P(Scan, ScanOracle, testing::ValuesIn(scan_cases()), kNames);
INSTANTIATE_TEST_SUITE_P(Bidirectional, ScanOracle, testing::ValuesIn(bidirectional_cases()),
                         kNames);

TEST(ScanDtypes, HalfPrecisionInputsComputeInFloat32) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    for (const ScanCase& s : small_cases()) {
      SCOPED_TRACE(name_of(s));
      expect_matches_reference(s, make_inputs(s, dtype), at::kCPU);
    }
  }
}

TEST(ScanDtypes, GatesOfAnyFloatingDtypeAreTakenAtTheirValue) {
  const ScanCase s{.length = 40, .decayed_feedback = true};
  for (const at::ScalarType rows : {at::kFloat, at::kBFloat16}) {
    for (const at::ScalarType gates : {at::kBFloat16, at::kHalf, at::kFloat}) {
      ScanInputs in = make_inputs(s, rows);
      for (at::Tensor* x : {&in.log_alpha, &in.beta, &in.c, &in.d}) {
        *x = x->to(gates);
      }
      const OutputGradients given = make_output_gradients(s, in);
      const OperatorResult result = run_operator(in, given);
      const auto expected = tensors_of(OperatorResult{
          reference_values(in), reference_gradients(in, given.o, given.final_state)});
      const auto got = tensors_of(result);
      for (size_t i = 0; i < got.size(); ++i) {
        const auto dtype =
            got[i].second.scalar_type();  // results in a coarser dtype are rounded to it
        EXPECT_LE(relative_error(got[i].second, expected[i].second, 0),
                  bound_of(got[i].first, dtype, s.keys))
            << got[i].first;
      }
      EXPECT_EQ(result.gradients.log_alpha.scalar_type(), gates);
      EXPECT_EQ(result.gradients.d.scalar_type(), gates);
      EXPECT_EQ(result.values.final_state.scalar_type(), at::kFloat);
    }
  }
}

TEST(ScanDtypes, HeadDimensionsThatFitNoVectorMatch) {
  for (const auto& [key_dim, value_dim] :
       {std::pair<int64_t, int64_t>{1, 1}, {7, 5}, {20, 33}, {48, 80}}) {
    const ScanCase s{.length = 21, .key_dim = key_dim, .value_dim = value_dim};
    SCOPED_TRACE(name_of(s));
    expect_matches_reference(s, make_inputs(s, at::kFloat), at::kCPU);
    expect_matches_reference(s, make_inputs(s, at::kDouble), at::kCPU);
  }
}

// The same values seen through other strides give the same bits.
ScanInputs restrided(const ScanInputs& in) {
  const auto heads_first = [](const at::Tensor& x) {  // memory [B, H, T, D], view [B, T, H, D]
    return x.transpose(1, 2).contiguous().transpose(1, 2);
  };
  const auto spread = [](const at::Tensor& x) {  // every second row of a wider buffer
    std::vector<int64_t> sizes = x.sizes().vec();
    sizes[1] *= 2;
    sizes.back() += 3;
    at::Tensor buffer = x.new_full(sizes, 1e30);
    at::Tensor view = buffer.slice(1, 1, sizes[1], 2).slice(-1, 2, 2 + x.size(-1));
    view.copy_(x);
    return view;
  };
  ScanInputs out = in;
  out.q = heads_first(in.q);
  out.k = spread(in.k);
  out.v = in.v.transpose(2, 3).contiguous().transpose(2, 3);  // last stride is not 1
  out.log_alpha = heads_first(in.log_alpha);
  out.beta = spread(in.beta);
  out.c = in.c.flip(1).contiguous().flip(1).transpose(0, 1).contiguous().transpose(0, 1);
  out.initial_state = in.initial_state.transpose(2, 3).contiguous().transpose(2, 3);
  return out;
}

TEST(ScanStrides, TransposedSlicedAndSpreadInputsGiveTheSameBits) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const ScanCase s{.length = 37, .key_dim = 32, .value_dim = 16, .batch = 2, .heads = 3};
    const ScanInputs in = make_inputs(s, dtype);
    OutputGradients given = make_output_gradients(s, in);
    const OperatorResult plain = run_operator(in, given);
    given.o = given.o.transpose(1, 3).contiguous().transpose(1, 3);
    given.final_state = given.final_state.transpose(0, 2).contiguous().transpose(0, 2);
    expect_same_bits(plain, run_operator(restrided(in), given));
  }
}

TEST(ScanStrides, ExpandedInputsActAsTheirCopies) {
  const ScanCase s{.length = 37, .batch = 2, .heads = 3};
  ScanInputs in = make_inputs(s, at::kFloat);
  in.q = in.q.narrow(2, 0, 1).expand_as(in.q);
  in.k = in.k.narrow(0, 0, 1).expand_as(in.k);
  in.v = in.v.narrow(1, 0, 1).expand_as(in.v);
  in.c = in.c.narrow(2, 0, 1).expand_as(in.c);
  in.initial_state = in.initial_state.narrow(3, 0, 1).expand_as(in.initial_state);
  ScanInputs copies = in;
  for (auto& [name, x] : tensors_of(copies)) {
    *x = x->contiguous();
  }
  OutputGradients given = make_output_gradients(s, in);
  given.o = given.o.narrow(1, 0, 1).expand_as(given.o);  // as the gradient of a mean over tokens
  OutputGradients dense{given.o.contiguous(), given.final_state};
  expect_same_bits(run_operator(copies, dense), run_operator(in, given));
}

}  // namespace
}  // namespace comba::kernels::test
