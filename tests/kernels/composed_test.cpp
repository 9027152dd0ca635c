// The operators as compositions of LibTorch's own against the oracle, token by token in fp64.
#include "kernels/composed/composed_operators.h"
#include "tests/kernels/compare.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

namespace comba::kernels::test {
namespace {

// Next to which a state that has decayed away is nothing; its squares would be no numbers.
constexpr double kFloor = 1e-30;

kernels::ScanInputs composed_inputs(const ScanInputs& in) {
  return {in.q,     in.k,
          in.v,     in.log_alpha,
          in.beta,  in.c,
          in.d,     in.initial_state,
          in.scale, in.decayed_feedback};
}

class ComposedScan : public testing::TestWithParam<ScanCase> {};

TEST_P(ComposedScan, MatchesTheOracle) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    const ScanInputs in = make_inputs(GetParam(), dtype);
    const ScanValues expected = reference_values(in);
    ChunkedScan scan;
    at::Tensor o, state;
    if (in.merge.empty()) {
      std::tie(o, state) = scan.scan(composed_inputs(in), in.reverse);
      EXPECT_LE(relative_error(state, expected.final_state, kFloor),
                bound_of("final_state", dtype, GetParam().keys));
    } else {
      o = scan.bidirectional(composed_inputs(in), in.merge);
    }
    ASSERT_EQ(o.sizes(), expected.o.sizes());
    EXPECT_LE(relative_error(o, expected.o, kFloor), bound_of("o", dtype, GetParam().keys));
  }
}

// A sequence of no tokens has no chunks to record.
std::vector<ScanCase> with_tokens(std::vector<ScanCase> cases) {
  std::erase_if(cases, [](const ScanCase& c) { return c.length == 0; });
  return cases;
}
const auto kNames = [](const auto& info) { return name_of(info.param); };
INSTANTIATE_TEST_SUITE_P(Scan, ComposedScan, testing::ValuesIn(with_tokens(scan_cases())), kNames);
INSTANTIATE_TEST_SUITE_P(Bidirectional, ComposedScan,
                         testing::ValuesIn(with_tokens(bidirectional_cases())), kNames);

// Powers of the chunks' matrices would be beyond 1e8 here, and the digits gone.
TEST(ComposedScan, EqualKeysUnderTheStrongestFeedbackLoseNoDigits) {
  for (const bool decayed : {false, true}) {
    ScanCase repeated{.length = 197, .key_dim = 64, .value_dim = 64, .keys = Keys::identical};
    repeated.gates = Gates::slight;
    repeated.beta = Strength::one;
    repeated.c = decayed ? Strength::strong : Strength::one;
    repeated.decayed_feedback = decayed;
    repeated.with_initial_state = false;
    const ScanInputs in = make_inputs(repeated, at::kFloat);
    const at::Tensor o = std::get<0>(ChunkedScan().scan(composed_inputs(in), in.reverse));
    EXPECT_LE(relative_error(o, reference_values(in).o, 0), 1e-5) << decayed;
  }
}

TEST(ComposedCausalConv, IsLibTorchsDepthwiseConvolutionInEitherDirection) {
  constexpr int64_t kOne[] = {1}, kNone[] = {0};
  for (const int64_t taps : {1, 2, 4, 9}) {
    for (const int64_t length : {1, 3, 20}) {
      const at::Tensor x = at::randn({2, length, 6}, at::kDouble);
      const at::Tensor rows = at::randn({taps, 6}, at::kDouble);
      for (const bool reverse : {false, true}) {
        const at::Tensor in_order = reverse ? at::flip(x, {1}) : x;
        const at::Tensor y =
            at::conv1d(at::constant_pad_nd(in_order.transpose(1, 2), {taps - 1, 0}),
                       rows.t().unsqueeze(1), at::Tensor(), at::IntArrayRef(kOne),
                       at::IntArrayRef(kNone), at::IntArrayRef(kOne), 6)
                .transpose(1, 2);
        EXPECT_TRUE(at::allclose(composed_causal_conv(x, rows, reverse),
                                 reverse ? at::flip(y, {1}) : y, 1e-12, 1e-12))
            << taps << " taps, " << length << " tokens";
      }
    }
  }
}

}  // namespace
}  // namespace comba::kernels::test
