#include "kernels/scan_problem.h"

#include "kernels/scan_operators.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

namespace comba::kernels {
namespace {

at::ScalarType accum_type(const at::Tensor& q) {
  return q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// Rows must be dense; every other stride is free.
at::Tensor dense_rows(const at::Tensor& x) {
  return x.stride(-1) == 1 || x.size(-1) == 1 ? x : x.contiguous();
}

at::Tensor present(const OptionalTensor& x) { return x && x->defined() ? *x : at::Tensor(); }

RowStrides row_strides(const at::Tensor& x) {
  return {x.stride(0), x.stride(1), x.stride(2), x.stride(3)};
}

template <typename Accum>
Accum* data(const at::Tensor& x) {
  return x.defined() ? x.data_ptr<Accum>() : nullptr;
}

// Gradient of a [.., D] input used by both directions or by one each, back in the input's shape and dtype.
at::Tensor fold_directions(const at::Tensor& gradient, const at::Tensor& input) {
  const at::Tensor folded = input.dim() == gradient.dim() ? gradient : gradient.sum(0);
  return folded.to(input.scalar_type());
}

}  // namespace

ScanProblem scan_problem(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                         const at::Tensor& log_alpha, const at::Tensor& beta, const at::Tensor& c,
                         const OptionalTensor& d, const OptionalTensor& initial_state, double scale,
                         bool decayed_feedback, bool reverse) {
  const auto accum = accum_type(q);
  const auto gate = [&](const at::Tensor& x) { return x.unsqueeze(0).to(accum).contiguous(); };
  ScanProblem problem;
  problem.q = dense_rows(q.unsqueeze(0));
  problem.k = dense_rows(k.unsqueeze(0));
  problem.v = dense_rows(v.unsqueeze(0));
  problem.log_alpha = gate(log_alpha);
  problem.beta = gate(beta);
  problem.c = gate(c);
  const at::Tensor correction = present(d);
  problem.d =
      correction.defined() ? gate(correction) : at::zeros({1, q.size(2)}, q.options().dtype(accum));
  const at::Tensor state = present(initial_state);
  if (state.defined()) {
    problem.initial_state = gate(state);
  }
  problem.scale = scale;
  problem.decayed_feedback = decayed_feedback;
  problem.reverse = reverse;
  return problem;
}

ScanProblem bidirectional_problem(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                  const at::Tensor& log_alpha, const at::Tensor& beta,
                                  const at::Tensor& c, const OptionalTensor& d, double scale,
                                  bool decayed_feedback) {
  const auto accum = accum_type(q);
  const int64_t directions = log_alpha.size(0);
  const auto rows = [&](const at::Tensor& x) {
    const at::Tensor dense = dense_rows(x);
    return dense.dim() == 5 ? dense : dense.unsqueeze(0).expand({directions, -1, -1, -1, -1});
  };
  const int64_t heads = q.size(-2);
  ScanProblem problem;
  problem.q = rows(q);
  problem.k = rows(k);
  problem.v = rows(v);
  problem.log_alpha = log_alpha.to(accum).contiguous();
  problem.beta = beta.to(accum).contiguous();
  problem.c = c.to(accum).contiguous();
  const at::Tensor correction = present(d);
  problem.d = correction.defined() ? correction.to(accum).expand({directions, heads}).contiguous()
                                   : at::zeros({directions, heads}, q.options().dtype(accum));
  problem.scale = scale;
  problem.decayed_feedback = decayed_feedback;
  return problem;
}

template <typename Accum>
ScanParams<Accum> make_params(const ScanProblem& problem) {
  ScanParams<Accum> p;
  p.q = problem.q.const_data_ptr();
  p.k = problem.k.const_data_ptr();
  p.v = problem.v.const_data_ptr();
  p.q_strides = row_strides(problem.q);
  p.k_strides = row_strides(problem.k);
  p.v_strides = row_strides(problem.v);
  p.log_alpha = data<Accum>(problem.log_alpha);
  p.beta = data<Accum>(problem.beta);
  p.c = data<Accum>(problem.c);
  p.d = data<Accum>(problem.d);
  p.initial_state = data<Accum>(problem.initial_state);
  p.directions = problem.q.size(0);
  p.batch = problem.q.size(1);
  p.length = problem.q.size(2);
  p.heads = problem.q.size(3);
  p.key_dim = problem.q.size(4);
  p.value_dim = problem.v.size(4);
  p.scale = static_cast<Accum>(problem.scale);
  p.decayed_feedback = problem.decayed_feedback;
  p.reverse = problem.reverse;
  return p;
}

ScanResult empty_result(const ScanProblem& problem) {
  const at::Tensor& v = problem.v;
  const auto options = v.options().dtype(problem.accum_dtype());
  const int64_t key_dim = problem.q.size(4);
  ScanResult result;
  result.o = at::empty(v.sizes(), options);
  result.final_state = at::empty({v.size(0), v.size(1), v.size(3), key_dim, v.size(4)}, options);
  return result;
}

ScanGradientResult empty_gradients(const ScanProblem& problem) {
  const auto options = problem.q.options().dtype(problem.accum_dtype());
  const at::Tensor& v = problem.v;
  const auto gates = problem.log_alpha.sizes();
  ScanGradientResult result;
  result.q = at::empty(problem.q.sizes(), options);
  result.k = at::empty(problem.k.sizes(), options);
  result.v = at::empty(v.sizes(), options);
  result.log_alpha = at::empty(gates, options);
  result.beta = at::empty(gates, options);
  result.c = at::empty(gates, options);
  result.d = at::zeros({v.size(0), v.size(1), v.size(3)}, options);
  result.initial_state =
      at::empty({v.size(0), v.size(1), v.size(3), problem.q.size(4), v.size(4)}, options);
  return result;
}

template <typename Accum>
ScanGradients<Accum> make_gradients(const ScanGradientResult& result, const at::Tensor& grad_o,
                                    const at::Tensor& grad_final_state) {
  ScanGradients<Accum> g;
  g.grad_o = data<Accum>(grad_o);
  g.grad_o_strides = row_strides(grad_o);
  g.grad_final_state = data<Accum>(grad_final_state);
  g.grad_q = data<Accum>(result.q);
  g.grad_k = data<Accum>(result.k);
  g.grad_v = data<Accum>(result.v);
  g.grad_log_alpha = data<Accum>(result.log_alpha);
  g.grad_beta = data<Accum>(result.beta);
  g.grad_c = data<Accum>(result.c);
  g.grad_d = data<Accum>(result.d);
  g.grad_initial_state = data<Accum>(result.initial_state);
  return g;
}

template ScanParams<float> make_params<float>(const ScanProblem&);
template ScanParams<double> make_params<double>(const ScanProblem&);
template ScanGradients<float> make_gradients<float>(const ScanGradientResult&, const at::Tensor&,
                                                    const at::Tensor&);
template ScanGradients<double> make_gradients<double>(const ScanGradientResult&, const at::Tensor&,
                                                      const at::Tensor&);

std::tuple<at::Tensor, at::Tensor> run_scan(const ScanBackend& backend,
                                            const ScanProblem& problem) {
  const ScanResult result = empty_result(problem);
  backend.forward(problem, result);
  return {result.o.squeeze(0).to(problem.q.scalar_type()), result.final_state.squeeze(0)};
}

at::Tensor run_bidirectional_scan(const ScanBackend& backend, const ScanProblem& problem,
                                  std::string_view merge) {
  if (backend.bidirectional != nullptr) {
    const at::Tensor o = backend.bidirectional(problem, merge);
    if (o.defined()) {
      return o;
    }
  }
  const ScanResult result = empty_result(problem);
  backend.forward(problem, result);
  const auto dtype = problem.q.scalar_type();
  if (merge == "none") {
    return result.o.to(dtype);
  }
  const at::Tensor merged = result.o[0].add_(result.o[1]);
  return (merge == "mean" ? merged.mul_(0.5) : merged).to(dtype);
}

ScanGradientTuple run_scan_backward(const ScanBackend& backend, const ScanProblem& problem,
                                    const OptionalTensor& grad_o,
                                    const OptionalTensor& grad_final_state,
                                    const at::Tensor& log_alpha, const at::Tensor& beta,
                                    const at::Tensor& c, const OptionalTensor& d,
                                    const OptionalTensor& initial_state) {
  const auto accum = problem.accum_dtype();
  const at::Tensor& v = problem.v;
  const auto options = v.options().dtype(accum);
  const at::Tensor given_o = present(grad_o);
  const at::Tensor rows = given_o.defined()
                              ? dense_rows(given_o.unsqueeze(0).to(accum))
                              : at::zeros({1}, options).expand(v.sizes()).contiguous();
  const at::Tensor given_state = present(grad_final_state);
  const at::Tensor state =
      given_state.defined() ? given_state.unsqueeze(0).to(accum).contiguous() : at::Tensor();
  const ScanGradientResult g = empty_gradients(problem);
  backend.backward(problem, rows, state, g);

  const auto dtype = v.scalar_type();
  const at::Tensor correction = present(d), start = present(initial_state);
  const auto none = [&] { return at::empty({0}, options); };  // outputs may not alias each other
  return {g.q.squeeze(0).to(dtype),
          g.k.squeeze(0).to(dtype),
          g.v.squeeze(0).to(dtype),
          g.log_alpha.squeeze(0).to(log_alpha.scalar_type()),
          g.beta.squeeze(0).to(beta.scalar_type()),
          g.c.squeeze(0).to(c.scalar_type()),
          correction.defined() ? g.d.squeeze(0).sum(0).to(correction.scalar_type()) : none(),
          start.defined() ? g.initial_state.squeeze(0).to(start.scalar_type()) : none()};
}

namespace {

// Gradients of both directions apart, by the backend's general way.
ScanGradientResult separate_gradients(const ScanBackend& backend, const ScanProblem& problem,
                                      const at::Tensor& grad_o, std::string_view merge) {
  at::Tensor rows = grad_o.to(problem.accum_dtype());
  if (merge == "mean") {
    rows = rows.mul(0.5);
  }
  rows = dense_rows(rows);
  if (merge != "none") {
    rows = rows.unsqueeze(0).expand(problem.v.sizes());
  }
  ScanGradientResult g = empty_gradients(problem);
  backend.backward(problem, rows, at::Tensor(), g);
  return g;
}

}  // namespace

BidirectionalGradientTuple run_bidirectional_scan_backward(
    const ScanBackend& backend, const ScanProblem& problem, const at::Tensor& grad_o,
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& log_alpha,
    const at::Tensor& beta, const at::Tensor& c, const OptionalTensor& d, std::string_view merge) {
  const bool shared_rows = q.dim() == 4 && k.dim() == 4 && v.dim() == 4;
  ScanGradientResult g;
  at::Tensor per_direction;  // d: [2, H]
  if (backend.bidirectional_backward != nullptr &&
      backend.bidirectional_backward(problem, grad_o, merge, shared_rows, g)) {
    per_direction = g.d;
  } else {
    g = separate_gradients(backend, problem, grad_o, merge);
    per_direction = g.d.sum(1);
  }
  const at::Tensor correction = present(d);
  at::Tensor grad_d = at::empty({0}, per_direction.options());
  if (correction.defined()) {
    grad_d =
        (correction.dim() == 2 ? per_direction : per_direction.sum(0)).to(correction.scalar_type());
  }
  return {fold_directions(g.q, q),
          fold_directions(g.k, k),
          fold_directions(g.v, v),
          g.log_alpha.to(log_alpha.scalar_type()),
          g.beta.to(beta.scalar_type()),
          g.c.to(c.scalar_type()),
          grad_d};
}

}  // namespace comba::kernels
