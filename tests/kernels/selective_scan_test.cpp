// comba::selective_scan against its recurrence in fp64, token by token, composed of LibTorch operations under autograd.
#include "kernels/selective_scan/selective_scan.h"

#include "kernels/composed/chunked_selective_scan.h"
#include "tests/kernels/compare.h"

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log1p.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace comba::kernels::test {
namespace {

struct SelectiveCase {
  const char* name;
  int64_t batch = 2, length = 19, channels = 40, states = 16;
  bool reverse = false, extras = true;  // D, z and the bias
  double spread = 1;
};

const SelectiveCase kSmall[] = {
    {.name = "usual"},
    {.name = "reverse", .reverse = true},
    {.name = "without_extras", .extras = false},
    {.name = "one_token", .batch = 1, .length = 1},
    {.name = "whole_chunks", .length = 16, .channels = 64},
    {.name = "one_channel", .length = 9, .channels = 1, .reverse = true},
    {.name = "far_from_zero", .spread = 12},
};
const SelectiveCase kLarge[] = {
    {.name = "vision", .batch = 3, .length = 197, .channels = 192},
    {.name = "vision_reverse", .batch = 2, .length = 257, .channels = 200, .reverse = true},
};

using Inputs = SelectiveScanInputs;

// Calls visit(name, member) for every tensor.
template <typename Visit>
void for_each(Inputs& in, const Visit& visit) {
  visit("u", in.u);
  visit("delta", in.delta);
  visit("A", in.A);
  visit("B", in.B);
  visit("C", in.C);
  visit("D", in.D);
  visit("z", in.z);
  visit("delta_bias", in.delta_bias);
}
bool is_rows(const std::string& name) { return name != "A" && name != "D" && name != "delta_bias"; }

// In fp64, rows with values that `dtype` holds.
Inputs make_inputs(const SelectiveCase& c, at::ScalarType dtype) {
  at::manual_seed(31);
  const auto wide = at::TensorOptions().dtype(at::kDouble);
  const auto rows = [&](int64_t columns) {
    return at::randn({c.batch, c.length, columns}, wide).to(dtype).to(at::kDouble);
  };
  Inputs in;
  in.u = rows(c.channels);
  in.delta = rows(c.channels) * c.spread - 2.0;
  in.delta = in.delta.to(dtype).to(at::kDouble);
  in.A = -at::exp(at::randn({c.channels, c.states}, wide));
  in.B = rows(c.states);
  in.C = rows(c.states);
  if (c.extras) {
    in.D = at::randn({c.channels}, wide);
    in.z = (rows(c.channels) * c.spread).to(dtype).to(at::kDouble);
    in.delta_bias = at::randn({c.channels}, wide);
  }
  return in;
}

Inputs leaves(Inputs in, at::Device device, at::ScalarType rows, at::ScalarType parameters) {
  for_each(in, [&](const std::string& name, at::Tensor& x) {
    if (x.defined()) {
      x = x.detach().to(device).to(is_rows(name) ? rows : parameters).set_requires_grad(true);
    }
  });
  return in;
}

at::Tensor by_definition(const Inputs& in, bool reverse) {
  at::Tensor raw = in.delta_bias.defined() ? in.delta + in.delta_bias : in.delta;
  const at::Tensor dt = at::log1p(at::exp(raw));  // [B, T, C]
  at::Tensor state = at::zeros({in.u.size(0), in.u.size(2), in.A.size(1)}, in.u.options());
  const int64_t length = in.u.size(1);
  std::vector<at::Tensor> out(static_cast<size_t>(length));
  for (int64_t step = 0; step < length; ++step) {
    const int64_t t = reverse ? length - 1 - step : step;
    const at::Tensor step_t = dt.select(1, t).unsqueeze(2), u = in.u.select(1, t);
    state =
        at::exp(step_t * in.A) * state + step_t * u.unsqueeze(2) * in.B.select(1, t).unsqueeze(1);
    at::Tensor y = (state * in.C.select(1, t).unsqueeze(1)).sum(2);
    y = in.D.defined() ? y + in.D * u : y;
    if (in.z.defined()) {
      const at::Tensor z = in.z.select(1, t);
      y = y * z * at::sigmoid(z);
    }
    out[static_cast<size_t>(t)] = y;
  }
  return at::stack(out, 1);
}

using Named = std::vector<std::pair<std::string, at::Tensor>>;

// y and the gradients of a fixed weighting of it.
Named with_gradients(Inputs in, const std::function<at::Tensor(const Inputs&)>& scan) {
  const at::Tensor y = scan(in);
  at::manual_seed(32);
  const at::Tensor weights =
      at::randn(y.sizes(), at::kDouble).to(at::kBFloat16).to(y.options().requires_grad(false));
  Named named = {{"y", y.detach()}};
  std::vector<std::string> names;
  std::vector<at::Tensor> inputs;
  for_each(in, [&](const std::string& name, at::Tensor& x) {
    if (x.defined()) {
      names.push_back("grad_" + name);
      inputs.push_back(x);
    }
  });
  const auto gradients = torch::autograd::grad({y}, inputs, {weights});
  for (size_t i = 0; i < names.size(); ++i) {
    named.emplace_back(names[i], gradients[i]);
  }
  return named;
}

// Rounding of rows' dtype: of y, and of gradients that are sums over several of them.
double bound_for(at::ScalarType dtype) {
  return dtype == at::kDouble     ? 1e-12
         : dtype == at::kFloat    ? 1e-5
         : dtype == at::kBFloat16 ? 6e-3
                                  : 8e-4;
}

void expect_matches(const SelectiveCase& c, at::Device device, at::ScalarType dtype) {
  SCOPED_TRACE(std::string(c.name) + " " + c10::toString(dtype));
  const Inputs exact = make_inputs(c, dtype);
  const auto parameters = dtype == at::kDouble ? at::kDouble : at::kFloat;
  const Named expected =
      with_gradients(leaves(exact, at::kCPU, at::kDouble, at::kDouble),
                     [&](const Inputs& in) { return by_definition(in, c.reverse); });
  const Named got = with_gradients(leaves(exact, device, dtype, parameters),
                                   [&](const Inputs& in) { return selective_scan(in, c.reverse); });
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_LT(relative_error(got[i].second, expected[i].second, 0), bound_for(dtype))
        << got[i].first;
  }
}

TEST(SelectiveScan, AgreesWithItsRecurrenceInFp64) {
  for (const SelectiveCase& c : kSmall) {
    expect_matches(c, at::kCPU, at::kDouble);
  }
  expect_matches({.name = "five_states", .channels = 70, .states = 5}, at::kCPU, at::kDouble);
}

TEST(SelectiveScan, AgreesWithItsRecurrenceInEveryDtype) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const SelectiveCase& c : kSmall) {
      expect_matches(c, at::kCPU, dtype);
    }
  }
  for (const SelectiveCase& c : kLarge) {
    expect_matches(c, at::kCPU, at::kFloat);
  }
}

TEST(SelectiveScan, ComposedOfPlainOperatorsAgreesWithItsRecurrence) {
  const auto expect_close = [](const SelectiveCase& c, at::ScalarType dtype) {
    const Inputs exact = make_inputs(c, dtype);
    const auto parameters = dtype == at::kDouble ? at::kDouble : at::kFloat;
    const at::Tensor y =
        chunked_selective_scan(leaves(exact, at::kCPU, dtype, parameters), c.reverse);
    EXPECT_EQ(y.scalar_type(), dtype);
    EXPECT_LT(relative_error(y.detach(), by_definition(exact, c.reverse), 0), bound_for(dtype))
        << c.name << " " << dtype;
  };
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    for (const SelectiveCase& c : kSmall) {
      expect_close(c, dtype);
    }
  }
  for (const SelectiveCase& c : kLarge) {
    expect_close(c, at::kFloat);
  }
}

// Within a chunk most states decay by more than fp32 can hold; the others hardly do.
TEST(SelectiveScan, ComposedOfPlainOperatorsStandsEveryDecay) {
  Inputs exact = make_inputs({.name = "decays", .length = 197}, at::kFloat);
  exact.A = -at::exp(at::randn(exact.A.sizes(), at::kDouble) * 4);
  exact.delta = exact.delta * 5;
  const Inputs in = leaves(exact, at::kCPU, at::kFloat, at::kFloat);
  for (const bool reverse : {false, true}) {
    EXPECT_LT(relative_error(chunked_selective_scan(in, reverse), by_definition(exact, reverse), 0),
              1e-5);
  }
}

// The views of wider rows that mixers give, against copies of them.
void expect_strides_do_not_matter(at::Device device) {
  const SelectiveCase c{.name = "views"};
  const auto options = at::TensorOptions().device(device);
  const at::Tensor both = at::randn({c.batch, c.length, 2 * c.channels}, options),
                   few = at::randn({c.batch, c.length, 3 + 2 * c.states}, options);
  Inputs in = leaves(make_inputs(c, at::kFloat), device, at::kFloat, at::kFloat);
  in.u = both.narrow(2, 0, c.channels);
  in.z = both.narrow(2, c.channels, c.channels);
  in.B = few.narrow(2, 3, c.states);
  in.C = few.narrow(2, 3 + c.states, c.states);
  Inputs copies = in;
  for_each(copies, [](const std::string&, at::Tensor& x) { x = x.contiguous(); });
  EXPECT_TRUE(same_bits(selective_scan(in).detach(), selective_scan(copies).detach()));
  in.delta = in.delta.detach().transpose(0, 1).contiguous().transpose(0, 1);
  EXPECT_TRUE(same_bits(selective_scan(in).detach(), selective_scan(copies).detach()));
}

TEST(SelectiveScan, TakesViewsOfWiderRows) { expect_strides_do_not_matter(at::kCPU); }

TEST(SelectiveScan, ReverseIsTheScanOfTheTurnedSequence) {
  const Inputs in = make_inputs({.name = "turned"}, at::kDouble);
  Inputs turned = in;
  for_each(turned,
           [](const std::string& name, at::Tensor& x) { x = is_rows(name) ? x.flip({1}) : x; });
  EXPECT_LT(
      relative_error(selective_scan(in, /*reverse=*/true), selective_scan(turned).flip({1}), 0),
      1e-14);
}

TEST(SelectiveScan, NothingGivesNothing) {
  for (const auto& [batch, length] : {std::pair<int64_t, int64_t>{0, 5}, {2, 0}}) {
    Inputs in = leaves(make_inputs({.name = "", .batch = batch, .length = length}, at::kDouble),
                       at::kCPU, at::kDouble, at::kDouble);
    const at::Tensor y = selective_scan(in);
    EXPECT_EQ(y.numel(), 0);
    const auto gradients = torch::autograd::grad({y.sum()}, {in.u, in.A, in.D});
    EXPECT_EQ(gradients[1].abs().sum().item<double>(), 0.0);
    EXPECT_EQ(gradients[2].sizes(), in.D.sizes());
  }
}

TEST(SelectiveScan, NotANumberStaysInItsBatchElementAndChannel) {
  Inputs in = make_inputs({.name = "nan"}, at::kFloat);
  const at::Tensor clean = selective_scan(in);
  in.u = in.u.clone();
  in.u.select(0, 1).select(0, 4).select(0, 7).fill_(NAN);
  const at::Tensor y = selective_scan(in), wrong = y.isnan();
  EXPECT_EQ(wrong.sum().item<int64_t>(), in.u.size(1) - 4);
  EXPECT_TRUE(wrong.select(0, 1).narrow(0, 4, in.u.size(1) - 4).select(1, 7).all().item<bool>());
  EXPECT_TRUE(same_bits(y.select(0, 0).contiguous(), clean.select(0, 0).contiguous()));
}

TEST(SelectiveScan, BadInputNamesTheArgumentWhatWasExpectedAndWhatWasFound) {
  const Inputs good = make_inputs({.name = "good"}, at::kFloat);
  const auto complaint = [&](const std::function<void(Inputs&)>& spoil) {
    Inputs in = good;
    spoil(in);
    try {
      selective_scan(in);
    } catch (const c10::Error& error) {
      return std::string(error.what_without_backtrace());
    }
    return std::string("nothing");
  };
  const auto expect_names = [&](const std::function<void(Inputs&)>& spoil, const char* argument,
                                const char* expected) {
    const std::string message = complaint(spoil);
    EXPECT_NE(message.find(std::string("selective_scan: ") + argument), std::string::npos)
        << message;
    EXPECT_NE(message.find(expected), std::string::npos) << message;
  };
  EXPECT_EQ(complaint([](Inputs&) {}), "nothing");
  expect_names([](Inputs& in) { in.u = in.u.select(0, 0); }, "u", "[B, T, C]");
  expect_names([](Inputs& in) { in.u = in.u.to(at::kLong); }, "u", "dtype");
  expect_names([](Inputs& in) { in.delta = in.delta.narrow(1, 0, 3); }, "delta", "[2, 19, 40]");
  expect_names([](Inputs& in) { in.B = in.B.to(at::kHalf); }, "B", "Double");
  expect_names([](Inputs& in) { in.C = in.C.narrow(2, 0, 5); }, "C", "[2, 19, 16]");
  expect_names([](Inputs& in) { in.A = in.A.t(); }, "A", "[C, N]");
  expect_names([](Inputs& in) { in.D = in.D.narrow(0, 0, 2); }, "D", "[40]");
  expect_names([](Inputs& in) { in.z = in.z.unsqueeze(0); }, "z", "[B, T, C]");
  expect_names([](Inputs& in) { in.delta_bias = in.delta_bias.to(at::kInt); }, "delta_bias",
               "floating");
}

TEST(SelectiveScanCuda, SmallShapesAgreeWithTheRecurrence) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const SelectiveCase& c : kSmall) {
      expect_matches(c, at::kCUDA, dtype);
    }
  }
  expect_strides_do_not_matter(at::kCUDA);
}

TEST(SelectiveScanCuda, VisionShapesAgreeWithTheRecurrence) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const SelectiveCase& c : kLarge) {
      expect_matches(c, at::kCUDA, dtype);
    }
  }
}

TEST(SelectiveScanCuda, GivesTheSameBitsEveryTime) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  const Inputs exact = make_inputs(kLarge[0], at::kBFloat16);
  const auto run = [&] {
    return with_gradients(leaves(exact, at::kCUDA, at::kBFloat16, at::kFloat),
                          [](const Inputs& in) { return selective_scan(in); });
  };
  const Named first = run();
  for (int i = 0; i < 20; ++i) {
    const Named again = run();
    for (size_t j = 0; j < first.size(); ++j) {
      EXPECT_TRUE(same_bits(first[j].second, again[j].second)) << first[j].first;
    }
  }
}

TEST(SelectiveScanCuda, OtherNumbersOfStatesAreRefused) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  const Inputs in =
      leaves(make_inputs({.name = "", .states = 8}, at::kFloat), at::kCUDA, at::kFloat, at::kFloat);
  EXPECT_THROW(selective_scan(in), c10::Error);
}

}  // namespace
}  // namespace comba::kernels::test
