#include "tests/kernels/reference.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

namespace comba::kernels::test {
namespace {

using Row = std::vector<double>;

at::Tensor plain(const at::Tensor& x) {
  return x.defined() ? x.detach().to(at::kCPU, at::kDouble).contiguous() : x;
}

double* pointer(const at::Tensor& x) { return x.data_ptr<double>(); }

// One (batch, head) of a scan over contiguous fp64 tensors; tokens are numbered in the order of the
// walk.
struct Head {
  const ScanInputs& in;  // fp64, contiguous
  int64_t batch, head;

  int64_t tokens() const { return in.q.size(1); }
  int64_t heads() const { return in.q.size(2); }
  int64_t keys() const { return in.q.size(3); }
  int64_t values() const { return in.v.size(3); }
  int64_t cell(int64_t step) const {  // of a [B, T, H] tensor
    const int64_t t = in.reverse ? tokens() - 1 - step : step;
    return (batch * tokens() + t) * heads() + head;
  }
  int64_t state() const { return (batch * heads() + head) * keys() * values(); }
  double d() const { return in.d.defined() ? pointer(in.d)[head] : 0.0; }
};

// What the backward walk needs of a token.
struct Token {
  double alpha, feedback;  // feedback: c, or c alpha
  Row projected;           // S_{t-1}^T k, [Dv]
  Row update;              // u_t, [Dv]
  Row query;               // scale (q - d k), [Dk]
};

struct Walk {
  std::vector<Row> states;  // S_0 .. S_T, each [Dk * Dv]
  std::vector<Token> tokens;
};

Row initial_state(const Head& h) {
  Row state(h.keys() * h.values(), 0.0);
  if (h.in.initial_state.defined()) {
    const double* given = pointer(h.in.initial_state) + h.state();
    state.assign(given, given + state.size());
  }
  return state;
}

Token make_token(const Head& h, int64_t step, const Row& before) {
  const int64_t cell = h.cell(step), dk = h.keys(), dv = h.values();
  const double *q = pointer(h.in.q) + cell * dk, *k = pointer(h.in.k) + cell * dk;
  const double* v = pointer(h.in.v) + cell * dv;
  Token token;
  token.alpha = std::exp(pointer(h.in.log_alpha)[cell]);
  token.feedback = pointer(h.in.c)[cell] * (h.in.decayed_feedback ? token.alpha : 1.0);
  token.projected.assign(dv, 0.0);
  for (int64_t i = 0; i < dk; ++i) {
    for (int64_t j = 0; j < dv; ++j) {
      token.projected[j] += before[i * dv + j] * k[i];
    }
  }
  for (int64_t j = 0; j < dv; ++j) {
    token.update.push_back(pointer(h.in.beta)[cell] * v[j] - token.feedback * token.projected[j]);
  }
  for (int64_t i = 0; i < dk; ++i) {
    token.query.push_back(h.in.scale * (q[i] - h.d() * k[i]));
  }
  return token;
}

// Runs the recurrence; writes o of this head, and every state and token into the walk.
Walk walk(const Head& h, double* o) {
  const int64_t dk = h.keys(), dv = h.values();
  Walk w;
  w.states.push_back(initial_state(h));
  for (int64_t step = 0; step < h.tokens(); ++step) {
    const Row& before = w.states.back();
    Token token = make_token(h, step, before);
    const double* k = pointer(h.in.k) + h.cell(step) * dk;
    double* row = o + h.cell(step) * dv;
    Row after(before.size());
    for (int64_t i = 0; i < dk; ++i) {
      for (int64_t j = 0; j < dv; ++j) {
        after[i * dv + j] = token.alpha * before[i * dv + j] + k[i] * token.update[j];
        row[j] += after[i * dv + j] * token.query[i];
      }
    }
    w.states.push_back(std::move(after));
    w.tokens.push_back(std::move(token));
  }
  return w;
}

// Gradients of one token, given G = dL/dS_t from later tokens; leaves dL/dS_{t-1} in G.
//   G += qt do^T;  du = G^T k;  dp = -f du   (p = S_{t-1}^T k, f = feedback)
//   dk = G u + S_{t-1} dp - scale d S_t do;  dalpha = <G, S_{t-1}>;  G <- alpha G + k dp^T
void token_gradients(const Head& h, const Walk& w, int64_t step, const double* grad_o,
                     Row& grad_state, ScanGradients& out) {
  const int64_t cell = h.cell(step), dk = h.keys(), dv = h.values();
  const Token& token = w.tokens[step];
  const Row &before = w.states[step], &after = w.states[step + 1];
  const double *k = pointer(h.in.k) + cell * dk, *v = pointer(h.in.v) + cell * dv;
  const double *go = grad_o + cell * dv, beta = pointer(h.in.beta)[cell], c = pointer(h.in.c)[cell];
  double *dq = pointer(out.q) + cell * dk, *dkey = pointer(out.k) + cell * dk;
  Row du(dv, 0.0);
  double dalpha = 0, dd = 0;
  for (int64_t i = 0; i < dk; ++i) {
    double dquery = 0;
    for (int64_t j = 0; j < dv; ++j) {
      double& g = grad_state[i * dv + j];
      g += token.query[i] * go[j];
      dquery += after[i * dv + j] * go[j];
      du[j] += g * k[i];
      dalpha += g * before[i * dv + j];
      dkey[i] += g * token.update[j];
    }
    dq[i] = h.in.scale * dquery;
    dkey[i] -= h.in.scale * h.d() * dquery;
    const double term = h.in.scale * dquery * k[i];
    dd -= term;
    out.d_size += term * term;  // the root comes at the end
  }
  double dbeta = 0, dfeedback = 0;
  for (int64_t j = 0; j < dv; ++j) {
    dbeta += du[j] * v[j];
    dfeedback -= du[j] * token.projected[j];
    pointer(out.v)[cell * dv + j] = beta * du[j];
  }
  for (int64_t i = 0; i < dk; ++i) {
    for (int64_t j = 0; j < dv; ++j) {
      const double dprojected = -token.feedback * du[j];
      dkey[i] += before[i * dv + j] * dprojected;
      grad_state[i * dv + j] = token.alpha * grad_state[i * dv + j] + k[i] * dprojected;
    }
  }
  if (h.in.decayed_feedback) {
    dalpha += dfeedback * c;
  }
  pointer(out.beta)[cell] = dbeta;
  pointer(out.c)[cell] = dfeedback * (h.in.decayed_feedback ? token.alpha : 1.0);
  pointer(out.log_alpha)[cell] = dalpha * token.alpha;
  if (out.d.defined()) {
    pointer(out.d)[h.head] += dd;
  }
}

ScanInputs plain(const ScanInputs& in) {
  ScanInputs out = in;
  for (at::Tensor* x :
       {&out.q, &out.k, &out.v, &out.log_alpha, &out.beta, &out.c, &out.d, &out.initial_state}) {
    *x = plain(*x);
  }
  return out;
}

at::Tensor zeros(at::IntArrayRef sizes) { return at::zeros(sizes, at::kDouble); }
at::Tensor blank_like(const at::Tensor& x) { return x.defined() ? zeros(x.sizes()) : x; }

template <typename Body>
void for_each_head(const ScanInputs& in, const Body& body) {
  for (int64_t b = 0; b < in.q.size(0); ++b) {
    for (int64_t h = 0; h < in.q.size(2); ++h) {
      body(Head{in, b, h});
    }
  }
}

// The scan that direction r of a bidirectional one is.
ScanInputs direction(const ScanInputs& in, int64_t r) {
  const auto rows = [&](const at::Tensor& x) { return x.dim() == 5 ? x[r] : x; };
  ScanInputs out = in;
  out.q = rows(in.q);
  out.k = rows(in.k);
  out.v = rows(in.v);
  out.log_alpha = in.log_alpha[r];
  out.beta = in.beta[r];
  out.c = in.c[r];
  out.d = in.d.defined() && in.d.dim() == 2 ? in.d[r] : in.d;
  out.reverse = r == 1;
  out.merge.clear();
  return out;
}

ScanGradients combine(const ScanInputs& in, const ScanGradients& a, const ScanGradients& b) {
  const auto combined = [](const at::Tensor& x, const at::Tensor& y, bool own) {
    return own ? at::stack({x, y}) : x + y;
  };
  ScanGradients out;
  out.q = combined(a.q, b.q, in.q.dim() == 5);
  out.k = combined(a.k, b.k, in.k.dim() == 5);
  out.v = combined(a.v, b.v, in.v.dim() == 5);
  out.log_alpha = combined(a.log_alpha, b.log_alpha, true);
  out.beta = combined(a.beta, b.beta, true);
  out.c = combined(a.c, b.c, true);
  if (in.d.defined()) {
    out.d = combined(a.d, b.d, in.d.dim() == 2);
  }
  out.d_size = std::hypot(a.d_size, b.d_size);
  return out;
}

}  // namespace

ScanValues reference_values(const ScanInputs& inputs) {
  if (!inputs.merge.empty()) {
    const at::Tensor a = reference_values(direction(inputs, 0)).o;
    const at::Tensor b = reference_values(direction(inputs, 1)).o;
    if (inputs.merge == "none") {
      return {at::stack({a, b}), {}};
    }
    return {inputs.merge == "mean" ? (a + b) / 2 : a + b, {}};
  }
  const ScanInputs in = plain(inputs);
  ScanValues out{zeros(in.v.sizes()),
                 zeros({in.q.size(0), in.q.size(2), in.q.size(3), in.v.size(3)})};
  for_each_head(in, [&](const Head& h) {
    const Row last = walk(h, pointer(out.o)).states.back();
    std::copy(last.begin(), last.end(), pointer(out.final_state) + h.state());
  });
  return out;
}

ScanGradients reference_gradients(const ScanInputs& inputs, const at::Tensor& grad_o,
                                  const at::Tensor& grad_final_state) {
  if (!inputs.merge.empty()) {
    const at::Tensor g = inputs.merge == "mean" ? plain(grad_o) / 2 : plain(grad_o);
    const bool own = inputs.merge == "none";
    return combine(inputs, reference_gradients(direction(inputs, 0), own ? g[0] : g, {}),
                   reference_gradients(direction(inputs, 1), own ? g[1] : g, {}));
  }
  const ScanInputs in = plain(inputs);
  const at::Tensor from_o = grad_o.defined() ? plain(grad_o) : zeros(in.v.sizes());
  const at::Tensor from_state = plain(grad_final_state);
  ScanGradients out{
      blank_like(in.q),    blank_like(in.k), blank_like(in.v), blank_like(in.log_alpha),
      blank_like(in.beta), blank_like(in.c), blank_like(in.d), blank_like(in.initial_state)};
  at::Tensor unused = zeros(in.v.sizes());
  for_each_head(in, [&](const Head& h) {
    const Walk w = walk(h, pointer(unused));
    Row grad_state(h.keys() * h.values(), 0.0);
    if (from_state.defined()) {
      const double* given = pointer(from_state) + h.state();
      grad_state.assign(given, given + grad_state.size());
    }
    for (int64_t step = h.tokens() - 1; step >= 0; --step) {
      token_gradients(h, w, step, pointer(from_o), grad_state, out);
    }
    if (out.initial_state.defined()) {
      std::copy(grad_state.begin(), grad_state.end(), pointer(out.initial_state) + h.state());
    }
  });
  out.d_size = std::sqrt(out.d_size / static_cast<double>(std::max<int64_t>(in.q.size(2), 1)));
  return out;
}

}  // namespace comba::kernels::test
