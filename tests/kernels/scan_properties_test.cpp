// What must hold between runs of the operators, whatever the oracle says.
#include "kernels/scan.h"
#include "tests/kernels/compare.h"

#include <cmath>
#include <limits>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace comba::kernels::test {
namespace {

constexpr int64_t kTime = 1;

at::Tensor flipped(const at::Tensor& x) { return x.defined() ? x.flip(kTime) : x; }

ScanInputs flipped(const ScanInputs& in) {
  ScanInputs out = in;
  for (at::Tensor* x : {&out.q, &out.k, &out.v, &out.log_alpha, &out.beta, &out.c}) {
    *x = flipped(*x);
  }
  out.reverse = !in.reverse;
  return out;
}

void expect_close(const at::Tensor& a, const at::Tensor& b, double bound, const std::string& what) {
  EXPECT_LE(relative_error(a, b.detach().to(at::kDouble), 1e-37), bound) << what;
}

TEST(ScanProperties, ScanningAFlippedSequenceIsTheReverseScanFlipped) {
  for (const int64_t length : {1, 17, 64, 197}) {
    const ScanCase s{.length = length, .batch = 2};
    const ScanInputs in = make_inputs(s, at::kFloat);
    const OutputGradients given = make_output_gradients(s, in);
    const OperatorResult forward = run_operator(in, given);
    OperatorResult reverse = run_operator(flipped(in), {flipped(given.o), given.final_state});
    ScanGradients& g = reverse.gradients;
    for (at::Tensor* x : {&reverse.values.o, &g.q, &g.k, &g.v, &g.log_alpha, &g.beta, &g.c}) {
      *x = flipped(*x);
    }
    expect_same_bits(forward, reverse);
  }
}

TEST(ScanProperties, BidirectionalIsTwoScansMerged) {
  const ScanCase s{.length = 50, .merge = "none", .own_d = true, .batch = 2};
  const ScanInputs in = make_inputs(s, at::kFloat);
  const auto one = [&](int64_t r) {
    ScanOptions options{in.scale, in.decayed_feedback, r == 1};
    return std::get<0>(
        scan(in.q, in.k, in.v, in.log_alpha[r], in.beta[r], in.c[r], in.d[r], {}, options));
  };
  const at::Tensor forward = one(0), backward = one(1);
  EXPECT_TRUE(same_bits(run_values(in).o, at::stack({forward, backward})));
  const auto first = [](const at::Tensor& x) { return x.narrow(0, 0, 1); };
  const at::Tensor alone =
      bidirectional_scan(in.q, in.k, in.v, first(in.log_alpha), first(in.beta), first(in.c),
                         first(in.d), in.scale, in.decayed_feedback, "none");
  EXPECT_TRUE(same_bits(alone, forward.unsqueeze(0)));
  ScanInputs merged = in;
  merged.merge = "sum";
  EXPECT_TRUE(same_bits(run_values(merged).o, forward + backward));
  merged.merge = "mean";
  EXPECT_TRUE(same_bits(run_values(merged).o, (forward + backward) * 0.5));
}

TEST(ScanProperties, RepeatsToTheBitWhateverTheNumberOfThreads) {
  const int before = at::get_num_threads();
  for (const char* merge : {"", "mean"}) {
    const ScanCase s{.length = 65, .merge = merge, .batch = 3, .heads = 3};
    const ScanInputs in = make_inputs(s, at::kFloat);
    const OutputGradients given = make_output_gradients(s, in);
    at::set_num_threads(1);
    const OperatorResult first = run_operator(in, given);
    expect_same_bits(first, run_operator(in, given));
    for (const int threads : {2, 5}) {
      at::set_num_threads(threads);
      expect_same_bits(first, run_operator(in, given));
    }
  }
  at::set_num_threads(before);
}

TEST(ScanProperties, ABatchElementDoesNotDependOnItsNeighbours) {
  const ScanCase s{.length = 33, .batch = 3};
  const ScanInputs in = make_inputs(s, at::kFloat);
  ScanInputs single = in;
  for (auto& [name, x] : tensors_of(single)) {
    if (name != "d") {
      *x = x->narrow(0, 1, 1);
    }
  }
  EXPECT_TRUE(same_bits(run_values(in).o.narrow(0, 1, 1), run_values(single).o));
}

TEST(ScanProperties, UndecayedFeedbackIsTheDecayedFormWithStrengthOverDecay) {
  ScanInputs in = make_inputs({.length = 100}, at::kDouble);
  const ScanValues undecayed = run_values(in);
  in.c = in.c / in.log_alpha.exp();
  in.decayed_feedback = true;
  const ScanValues decayed = run_values(in);
  expect_close(undecayed.o, decayed.o, 1e-12, "o");
  expect_close(undecayed.final_state, decayed.final_state, 1e-12, "final_state");
}

// o_t = scale sum_{s<=t} exp(g_t - g_s) beta_s <q_t, k_s> v_s, without a recurrence.
TEST(ScanProperties, WithoutFeedbackItIsDecayedLinearAttention) {
  const ScanInputs in =
      make_inputs({.length = 40, .c = Strength::zero, .with_d = false, .with_initial_state = false},
                  at::kDouble);
  const at::Tensor decay = in.log_alpha.cumsum(1).permute({0, 2, 1});  // [B, H, T]
  const at::Tensor scores = in.q.permute({0, 2, 1, 3}).matmul(in.k.permute({0, 2, 3, 1})) *
                            (decay.unsqueeze(3) - decay.unsqueeze(2)).exp() *
                            in.beta.permute({0, 2, 1}).unsqueeze(2);
  const at::Tensor expected = in.scale * scores.tril().matmul(in.v.permute({0, 2, 1, 3}));
  expect_close(run_values(in).o.permute({0, 2, 1, 3}), expected, 1e-12, "o");
}

// beta = c = 1, no decay, unit keys: reading a key just written returns its value.
TEST(ScanProperties, TheDeltaRuleReadsBackWhatItJustWrote) {
  ScanInputs in = make_inputs({.length = 30,
                               .keys = Keys::runs,
                               .gates = Gates::none,
                               .beta = Strength::one,
                               .c = Strength::one,
                               .with_d = false},
                              at::kDouble);
  in.q = in.k;
  in.scale = 1;
  expect_close(run_values(in).o, in.v, 1e-12, "o");
}

TEST(ScanProperties, GatedDeltaNetIsTheDecayedFormWithEqualStrengths) {
  ScanInputs in = make_inputs({.length = 12, .with_d = false}, at::kDouble);
  in.c = in.beta;
  in.decayed_feedback = true;
  at::Tensor state = in.initial_state;  // S <- alpha S + beta k (v - alpha S^T k)^T
  for (int64_t t = 0; t < 12; ++t) {
    const at::Tensor k = in.k.select(1, t).unsqueeze(3), v = in.v.select(1, t).unsqueeze(2);
    const at::Tensor beta = in.beta.select(1, t).unsqueeze(2).unsqueeze(3);
    state = in.log_alpha.select(1, t).exp().unsqueeze(2).unsqueeze(3) * state;
    state = state + beta * k * (v - k.transpose(2, 3).matmul(state));
  }
  expect_close(run_values(in).final_state, state, 1e-12, "final_state");
}

TEST(ScanProperties, SplittingASequenceAtAnyTokenPassesTheStateOn) {
  const ScanInputs in = make_inputs({.length = 41}, at::kDouble);
  const ScanValues whole = run_values(in);
  for (const int64_t cut : {1, 16, 33, 40}) {
    ScanInputs first = in, second = in;
    for (at::Tensor ScanInputs::*x : {&ScanInputs::q, &ScanInputs::k, &ScanInputs::v,
                                      &ScanInputs::log_alpha, &ScanInputs::beta, &ScanInputs::c}) {
      first.*x = (in.*x).narrow(kTime, 0, cut);
      second.*x = (in.*x).narrow(kTime, cut, 41 - cut);
    }
    second.initial_state = run_values(first).final_state;
    expect_close(run_values(second).final_state, whole.final_state, 1e-12, "final_state");
    expect_close(run_values(second).o, whole.o.narrow(kTime, cut, 41 - cut), 1e-12, "o");
  }
}

TEST(ScanProperties, GradcheckInFloat64) {
  for (const ScanCase& s :
       {ScanCase{.length = 6, .key_dim = 5, .value_dim = 3},
        ScanCase{
            .length = 19, .key_dim = 2, .value_dim = 3, .decayed_feedback = true, .reverse = true},
        ScanCase{.length = 5, .key_dim = 3, .value_dim = 2, .merge = "mean"}}) {
    ScanInputs in = make_inputs(s, at::kDouble);
    const OutputGradients given = make_output_gradients(s, in);
    const auto loss = [&] {
      const ScanValues out = run_values(in);
      const double of_o = (out.o * given.o).sum().item<double>();
      return given.final_state.defined()
                 ? of_o + (out.final_state * given.final_state).sum().item<double>()
                 : of_o;
    };
    const auto gradients = tensors_of(run_operator(in, given));
    size_t index = 2;
    for (auto& [name, x] : tensors_of(in)) {
      const at::Tensor gradient = gradients[index++].second;
      for (int64_t i = 0; x->defined() && i < x->numel(); ++i) {
        double& value = x->data_ptr<double>()[i];
        const double kept = value;
        value = kept + 1e-5;
        const double above = loss();
        value = kept - 1e-5;
        const double below = loss();
        value = kept;
        const double found = gradient.contiguous().data_ptr<double>()[i];
        ASSERT_NEAR(found, (above - below) / 2e-5, 2e-8 * (1 + std::abs(found)))
            << name << " " << i;
      }
    }
  }
}

TEST(ScanProperties, LogAlphaOfMinusInfinityForgetsEverything) {
  const ScanCase s{.length = 20};
  ScanInputs in = make_inputs(s, at::kFloat);
  in.log_alpha.select(1, 10).fill_(-std::numeric_limits<float>::infinity());
  in.decayed_feedback = true;
  const ScanValues whole = run_values(in);
  ScanInputs rest = in;
  for (auto& [name, x] : tensors_of(rest)) {
    if (name == "initial_state") {
      *x = at::zeros_like(*x);
    } else if (name != "d") {
      *x = x->narrow(kTime, 10, 10);
    }
  }
  expect_close(run_values(rest).final_state, whole.final_state, 1e-6, "final_state");
  for (const auto& [name, x] : tensors_of(run_operator(in, make_output_gradients(s, in)))) {
    EXPECT_TRUE(x.isfinite().all().item<bool>()) << name;
  }
}

TEST(ScanProperties, NotANumberStaysInItsBatchAndHead) {
  const ScanCase s{.length = 40, .batch = 2, .heads = 3};
  const ScanInputs clean = make_inputs(s, at::kFloat);
  const OutputGradients given = make_output_gradients(s, clean);
  const OperatorResult expected = run_operator(clean, given);
  for (at::Tensor ScanInputs::*x : {&ScanInputs::q, &ScanInputs::k, &ScanInputs::v,
                                    &ScanInputs::log_alpha, &ScanInputs::beta, &ScanInputs::c}) {
    ScanInputs in = clean;
    in.*x = (clean.*x).clone();
    (in.*x).select(0, 1).select(0, 11).select(0, 2).fill_(NAN);  // batch 1, token 11, head 2
    OperatorResult found = run_operator(in, given);
    EXPECT_TRUE(found.values.o.select(0, 1).select(1, 2).isnan().any().item<bool>());
    OperatorResult wanted = expected;
    found.gradients.d = found.gradients.d.narrow(0, 0, 2);  // head 2's sum runs over the batch
    wanted.gradients.d = expected.gradients.d.narrow(0, 0, 2);
    const auto a = tensors_of(found), b = tensors_of(wanted);
    for (size_t i = 0; i < a.size(); ++i) {
      const at::Tensor &got = a[i].second, &want = b[i].second;
      if (a[i].first == "grad_d") {
        EXPECT_TRUE(same_bits(got, want)) << a[i].first;
        continue;
      }
      const int64_t head = a[i].first.find("state") == std::string::npos ? 2 : 1;
      EXPECT_TRUE(same_bits(got.select(0, 0), want.select(0, 0))) << a[i].first;
      EXPECT_TRUE(same_bits(got.narrow(head, 0, 2), want.narrow(head, 0, 2))) << a[i].first;
    }
  }
}

TEST(ScanProperties, DifferentiatingTwiceThrows) {
  for (const char* merge : {"", "mean"}) {
    const ScanCase s{.length = 5, .merge = merge};
    ScanInputs in = make_inputs(s, at::kDouble);
    in.k.requires_grad_(true);
    in.v.requires_grad_(true);
    const at::Tensor o = run_values(in).o;
    const auto first =
        torch::autograd::grad({(o * o).sum()}, {in.k}, {}, true, /*create_graph=*/true);
    EXPECT_THROW(torch::autograd::grad({first[0].sum()}, {in.v}), c10::Error);
  }
}

TEST(ScanProperties, GradientsOfSomeInputsAloneEqualThoseOfAll) {
  const ScanCase s{.length = 20};
  const ScanInputs in = make_inputs(s, at::kFloat);
  const OutputGradients given = make_output_gradients(s, in);
  const OperatorResult all = run_operator(in, given);
  ScanInputs some = in;
  some.v = in.v.detach().requires_grad_(true);
  const ScanValues out = run_values(some);
  const auto found =
      torch::autograd::grad({out.o, out.final_state}, {some.v}, {given.o, given.final_state});
  EXPECT_TRUE(same_bits(found[0], all.gradients.v));
}

}  // namespace
}  // namespace comba::kernels::test
