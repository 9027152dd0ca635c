// The optimizer's step over many tensors against its formulas in fp64.
#include "kernels/optimizer/adamw.h"

#include "tests/kernels/compare.h"

#include <cmath>
#include <limits>
#include <vector>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

namespace comba::kernels::test {
namespace {

using Tensors = std::vector<at::Tensor>;

// Tensors of many sizes, some of them not aligned to vectors.
Tensors make_tensors(at::Device device, int copies) {
  Tensors out;
  for (int i = 0; i < copies; ++i) {
    for (const int64_t size : {1, 3, 4, 192, 2047, 2048, 2049, 6000, 36864}) {
      out.push_back(at::randn({size}).to(device));
      out.push_back(at::randn({size + 1}).to(device).narrow(0, 1, size));
    }
  }
  return out;
}

Tensors wide(const Tensors& tensors) {
  Tensors out;
  for (const at::Tensor& x : tensors) {
    out.push_back(x.to(at::kCPU, at::kDouble, /*non_blocking=*/false, /*copy=*/true));
  }
  return out;
}

struct State {
  Tensors parameters, gradients, means, squares;
};
State make_state(at::Device device, int copies) {
  at::manual_seed(12);
  State s{make_tensors(device, copies), make_tensors(device, copies), make_tensors(device, copies),
          make_tensors(device, copies)};
  for (at::Tensor& square : s.squares) {
    square.square_();
  }
  return s;
}

void expect_close(const Tensors& got, const Tensors& want) {
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_LE(relative_error(got[i], want[i], 0), 2e-6) << "tensor " << i;
  }
}

void expect_step(at::Device device, int copies, bool scaled, double decay) {
  State s = make_state(device, copies);
  const double lr = 1e-2, steps = 3, factor = scaled ? 0.25 : 1.0;
  const AdamwOptions o{.weight_decay = decay};
  const Tensors x = wide(s.parameters), g = wide(s.gradients), m = wide(s.means),
                v = wide(s.squares);
  const auto scalar = [&](double value) {
    return at::full({}, value, at::TensorOptions(device).dtype(at::kFloat));
  };
  adamw_(s.parameters, s.gradients, s.means, s.squares,
         {scalar(lr), scalar(steps), scalar(0), scaled ? scalar(factor) : at::Tensor()}, o);
  Tensors want_x, want_m, want_v;
  for (size_t i = 0; i < x.size(); ++i) {
    const at::Tensor gradient = factor * g[i];
    want_m.push_back(o.beta1 * m[i] + (1 - o.beta1) * gradient);
    want_v.push_back(o.beta2 * v[i] + (1 - o.beta2) * gradient * gradient);
    const at::Tensor root = (want_v[i] / (1 - std::pow(o.beta2, steps))).sqrt() + o.eps;
    want_x.push_back(x[i] * (1 - lr * decay) -
                     lr / (1 - std::pow(o.beta1, steps)) * want_m[i] / root);
  }
  expect_close(s.parameters, want_x);
  expect_close(s.means, want_m);
  expect_close(s.squares, want_v);
}

void expect_skipped(at::Device device) {
  State s = make_state(device, 1);
  const Tensors before = wide(s.parameters);
  s.gradients[0].fill_(std::numeric_limits<float>::quiet_NaN());
  const auto scalar = [&](double value) {
    return at::full({}, value, at::TensorOptions(device).dtype(at::kFloat));
  };
  adamw_(s.parameters, s.gradients, s.means, s.squares, {scalar(1), scalar(1), scalar(1), {}}, {});
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_TRUE(at::equal(s.parameters[i].cpu().to(at::kDouble), before[i])) << i;
  }
  EXPECT_TRUE(std::isnan(total_norm(s.gradients).item<double>()));
}

void expect_norm(at::Device device, int copies) {
  const Tensors tensors = make_state(device, copies).gradients;
  double sum = 0;
  for (const at::Tensor& x : wide(tensors)) {
    sum += x.square().sum().item<double>();
  }
  const at::Tensor norm = total_norm(tensors);
  EXPECT_EQ(norm.dim(), 0);
  EXPECT_NEAR(norm.item<double>(), std::sqrt(sum), 2e-6 * std::sqrt(sum));
  EXPECT_TRUE(same_bits(norm, total_norm(tensors)));
}

void expect_all(at::Device device) {
  for (const int copies : {1, 25}) {  // 450 tensors: more than a launch takes
    expect_step(device, copies, true, 0.05);
    expect_step(device, copies, false, 0);
    expect_norm(device, copies);
  }
  expect_skipped(device);
}

TEST(OptimizerStep, IsAdamwsFormula) { expect_all(at::kCPU); }
TEST(OptimizerStep, OnCudaIsAdamwsFormula) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  expect_all(at::Device(at::kCUDA, 0));
}

}  // namespace
}  // namespace comba::kernels::test
