#include "tests/kernels/compare.h"

#include "kernels/scan.h"

#include <algorithm>
#include <cmath>
#include <random>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace comba::kernels::test {
namespace {

at::Tensor random_like(const at::Tensor& x, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  at::Tensor out = at::empty(x.sizes(), at::kDouble);
  for (int64_t i = 0; i < out.numel(); ++i) {
    out.data_ptr<double>()[i] = normal(engine);
  }
  return out;
}

// Errors below this count as none; everything above is judged relatively. fp32: at log_alpha = -100
// alpha is a subnormal 3.8e-44, and with it every gradient of log_alpha, so a result may be flushed
// to zero or carry a few bits only. fp64: the square of a state that decayed to 1e-213 is zero, and
// so would be its rms.
double floor_of(at::ScalarType dtype) { return dtype == at::kDouble ? 1e-150 : 1e-37; }

}  // namespace

std::vector<std::pair<std::string, at::Tensor*>> tensors_of(ScanInputs& in) {
  return {{"q", &in.q},       {"k", &in.k}, {"v", &in.v}, {"log_alpha", &in.log_alpha},
          {"beta", &in.beta}, {"c", &in.c}, {"d", &in.d}, {"initial_state", &in.initial_state}};
}

std::vector<std::pair<std::string, at::Tensor>> tensors_of(const OperatorResult& r) {
  const ScanGradients& g = r.gradients;
  return {{"o", r.values.o},     {"final_state", r.values.final_state},
          {"grad_q", g.q},       {"grad_k", g.k},
          {"grad_v", g.v},       {"grad_log_alpha", g.log_alpha},
          {"grad_beta", g.beta}, {"grad_c", g.c},
          {"grad_d", g.d},       {"grad_initial_state", g.initial_state}};
}

OutputGradients make_output_gradients(const ScanCase& s, const ScanInputs& in) {
  const at::Tensor last =
      at::empty({s.batch, s.heads, s.key_dim, s.value_dim}, in.log_alpha.options());
  const at::Tensor row = s.merge == "none" && !s.own_rows
                             ? in.v.unsqueeze(0).expand({2, -1, -1, -1, -1})
                         : !s.merge.empty() && s.merge != "none" && s.own_rows ? in.v[0]
                                                                               : in.v;
  OutputGradients out;
  if (s.use_o) {
    out.o = random_like(row, 5).to(in.v.scalar_type());
  }
  if (s.use_final_state && s.merge.empty()) {
    out.final_state = random_like(last, 6).to(last.scalar_type());
  }
  return out;
}

ScanInputs moved(const ScanInputs& inputs, at::Device device) {
  ScanInputs out = inputs;
  for (auto& [name, x] : tensors_of(out)) {
    if (x->defined()) {
      *x = x->to(device);
    }
  }
  return out;
}

ScanValues run_values(const ScanInputs& in) {
  if (!in.merge.empty()) {
    return {bidirectional_scan(in.q, in.k, in.v, in.log_alpha, in.beta, in.c, in.d, in.scale,
                               in.decayed_feedback, in.merge),
            {}};
  }
  const ScanOptions options{in.scale, in.decayed_feedback, in.reverse};
  auto [o, final_state] =
      scan(in.q, in.k, in.v, in.log_alpha, in.beta, in.c, in.d, in.initial_state, options);
  return {o, final_state};
}

OperatorResult run_operator(const ScanInputs& inputs, const OutputGradients& given) {
  ScanInputs in = inputs;
  std::vector<at::Tensor> leaves;
  for (auto& [name, x] : tensors_of(in)) {
    if (x->defined()) {
      *x = x->detach().requires_grad_(true);  // keeps the strides
      leaves.push_back(*x);
    }
  }
  OperatorResult result{run_values(in), {}};
  std::vector<at::Tensor> outputs, gradients;
  if (given.o.defined()) {
    outputs.push_back(result.values.o);
    gradients.push_back(given.o.to(inputs.q.device()));
  }
  if (given.final_state.defined()) {
    outputs.push_back(result.values.final_state);
    gradients.push_back(given.final_state.to(inputs.q.device()));
  }
  const auto found = torch::autograd::grad(outputs, leaves, gradients);
  ScanGradients& g = result.gradients;
  auto next = found.begin();
  for (const auto& [input, gradient] :
       std::vector<std::pair<at::Tensor, at::Tensor*>>{{in.q, &g.q},
                                                       {in.k, &g.k},
                                                       {in.v, &g.v},
                                                       {in.log_alpha, &g.log_alpha},
                                                       {in.beta, &g.beta},
                                                       {in.c, &g.c},
                                                       {in.d, &g.d},
                                                       {in.initial_state, &g.initial_state}}) {
    if (input.defined()) {
      *gradient = *next++;
    }
  }
  result.values.o = result.values.o.detach();
  if (result.values.final_state.defined()) {
    result.values.final_state = result.values.final_state.detach();
  }
  return result;
}

double bound_of(const std::string& tensor, at::ScalarType dtype, Keys keys) {
  if (dtype == at::kDouble) {
    return 1e-11;
  }
  if (dtype == at::kFloat) {
    return 1e-5;
  }
  double bound = 8e-3;  // gradients of q, k, v and the states
  if (tensor == "o" || tensor == "final_state") {
    bound = 6e-3;
  } else if (tensor == "grad_beta" || tensor == "grad_c") {
    bound = 1e-2;
  } else if (tensor == "grad_log_alpha" || tensor == "grad_d") {
    bound = 1.5e-2;  // sums of signed terms; of d just one number a head
  }
  if (keys == Keys::smooth || keys == Keys::identical || keys == Keys::runs) {
    bound *= 2;
  }
  return dtype == at::kHalf ? bound / 6 : bound;
}

double relative_error(const at::Tensor& x, const at::Tensor& reference, double floor,
                      double least_size) {
  if (reference.numel() == 0) {
    return 0;
  }
  const at::Tensor error = x.detach().to(at::kCPU, at::kDouble) - reference;
  if (error.abs().max().item<double>() <= floor) {
    return 0;
  }
  const double size = std::max(reference.pow(2).mean().sqrt().item<double>(), least_size);
  const double ratio = error.pow(2).mean().sqrt().item<double>() / size;
  return std::isnan(ratio) ? INFINITY : ratio;
}

void expect_matches_reference(const ScanCase& s, const ScanInputs& cpu_inputs, at::Device device) {
  const OutputGradients given = make_output_gradients(s, cpu_inputs);
  const OperatorResult expected{reference_values(cpu_inputs),
                                reference_gradients(cpu_inputs, given.o, given.final_state)};
  const ScanInputs inputs = moved(cpu_inputs, device);
  const OperatorResult result = run_operator(inputs, given);
  const auto dtype = cpu_inputs.q.scalar_type();
  const auto want = tensors_of(expected), got = tensors_of(result);
  for (size_t i = 0; i < want.size(); ++i) {
    const auto& [name, reference] = want[i];
    const at::Tensor& x = got[i].second;
    ASSERT_EQ(x.defined(), reference.defined()) << name;
    if (!x.defined()) {
      continue;
    }
    ASSERT_EQ(x.sizes(), reference.sizes()) << name;
    ASSERT_EQ(x.device(), inputs.q.device()) << name;
    const double least_size = name == "grad_d" ? expected.gradients.d_size : 0;
    EXPECT_LE(relative_error(x, reference, floor_of(dtype), least_size),
              bound_of(name, dtype, s.keys))
        << name << ", rms of the reference "
        << (reference.numel() > 0 ? reference.pow(2).mean().sqrt().item<double>() : 0.0);
  }
  EXPECT_EQ(result.values.o.scalar_type(), dtype);
  ScanInputs named = cpu_inputs;
  for (const auto& [name, x] : tensors_of(named)) {
    const std::string wanted = "grad_" + name;
    for (const auto& [found, gradient] : got) {
      if (found == wanted && x->defined()) {
        EXPECT_EQ(gradient.scalar_type(), x->scalar_type()) << found;
      }
    }
  }
}

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (a.defined() != b.defined() || (a.defined() && a.sizes() != b.sizes())) {
    return false;
  }
  return !a.defined() || a.detach().cpu().equal(b.detach().cpu());
}

void expect_same_bits(const OperatorResult& a, const OperatorResult& b) {
  const auto x = tensors_of(a), y = tensors_of(b);
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_TRUE(same_bits(x[i].second, y[i].second)) << x[i].first;
  }
}

}  // namespace comba::kernels::test
