#include "tools/recurrence.h"

#include <cmath>

namespace comba::tools {
namespace {

// S^T x for S [Dk, Dv]
std::vector<double> project(const std::vector<double>& state, const double* x, size_t rows,
                            size_t columns) {
  std::vector<double> y(columns, 0.0);
  for (size_t i = 0; i < rows; ++i) {
    for (size_t j = 0; j < columns; ++j) {
      y[j] += state[i * columns + j] * x[i];
    }
  }
  return y;
}

// S y
double row_product(const std::vector<double>& state, size_t row, const std::vector<double>& y) {
  double sum = 0;
  for (size_t j = 0; j < y.size(); ++j) {
    sum += state[row * y.size() + j] * y[j];
  }
  return sum;
}

// S <- a S + x y^T
void update(std::vector<double>& state, double a, const double* x, const std::vector<double>& y) {
  for (size_t i = 0; i * y.size() < state.size(); ++i) {
    for (size_t j = 0; j < y.size(); ++j) {
      state[i * y.size() + j] = a * state[i * y.size() + j] + x[i] * y[j];
    }
  }
}

double dot(const double* a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t j = 0; j < b.size(); ++j) {
    sum += a[j] * b[j];
  }
  return sum;
}

// States, and what each token read and wrote, on the way forward.
struct RecurrenceTrace {
  std::vector<std::vector<double>> states;            // S_0 .. S_T
  std::vector<std::vector<double>> read, write, ask;  // S_{t-1}^T k, u, scale (q - d k)
  std::vector<double> o;
};

RecurrenceTrace run_recurrence(const Recurrence& r) {
  RecurrenceTrace trace;
  trace.states.emplace_back(r.key_dim * r.value_dim, 0.0);
  for (size_t t = 0; t < r.length; ++t) {
    const double *k = &r.k[t * r.key_dim], *v = &r.v[t * r.value_dim],
                 alpha = std::exp(r.log_alpha[t]);
    std::vector<double> state = trace.states.back(), write(r.value_dim), ask(r.key_dim);
    std::vector<double> read = project(state, k, r.key_dim, r.value_dim);
    for (size_t j = 0; j < r.value_dim; ++j) {
      write[j] = r.beta[t] * v[j] - r.c[t] * (r.decayed_feedback ? alpha : 1.0) * read[j];
    }
    for (size_t i = 0; i < r.key_dim; ++i) {
      ask[i] = r.scale * (r.q[t * r.key_dim + i] - r.d * k[i]);
    }
    update(state, alpha, k, write);
    const std::vector<double> o = project(state, ask.data(), r.key_dim, r.value_dim);
    trace.o.insert(trace.o.end(), o.begin(), o.end());
    trace.states.push_back(std::move(state));
    trace.read.push_back(std::move(read));
    trace.write.push_back(std::move(write));
    trace.ask.push_back(std::move(ask));
  }
  return trace;
}

}  // namespace

// G is dL/dS, walked from the last token to the first.
RecurrenceResult solve_recurrence(const Recurrence& r, const std::vector<double>& grad_o) {
  const RecurrenceTrace trace = run_recurrence(r);
  RecurrenceResult out{trace.o,
                       std::vector<double>(r.q.size()),
                       std::vector<double>(r.k.size()),
                       std::vector<double>(r.v.size()),
                       std::vector<double>(r.length),
                       std::vector<double>(r.length),
                       std::vector<double>(r.length)};
  std::vector<double> gradient(r.key_dim * r.value_dim, 0.0);
  for (size_t t = r.length; t-- > 0;) {
    const double *k = &r.k[t * r.key_dim], *v = &r.v[t * r.value_dim],
                 alpha = std::exp(r.log_alpha[t]);
    const std::vector<double>&before = trace.states[t], &after = trace.states[t + 1];
    const std::vector<double> down(
        grad_o.begin() + static_cast<std::ptrdiff_t>(t * r.value_dim),
        grad_o.begin() + static_cast<std::ptrdiff_t>((t + 1) * r.value_dim));
    update(gradient, 1.0, trace.ask[t].data(), down);
    const std::vector<double> du = project(gradient, k, r.key_dim, r.value_dim);
    const double feedback = r.c[t] * (r.decayed_feedback ? alpha : 1.0);
    std::vector<double> dread(du);
    for (double& x : dread) {
      x *= -feedback;
    }
    double dalpha = 0;
    for (size_t i = 0; i < r.key_dim; ++i) {
      const double dask = r.scale * row_product(after, i, down);
      out.q[t * r.key_dim + i] = dask;
      out.k[t * r.key_dim + i] =
          row_product(gradient, i, trace.write[t]) + row_product(before, i, dread) - r.d * dask;
      for (size_t j = 0; j < r.value_dim; ++j) {
        dalpha += gradient[i * r.value_dim + j] * before[i * r.value_dim + j];
      }
    }
    const double dfeedback = -dot(trace.read[t].data(), du);
    for (size_t j = 0; j < r.value_dim; ++j) {
      out.v[t * r.value_dim + j] = r.beta[t] * du[j];
    }
    out.beta[t] = dot(v, du);
    out.c[t] = dfeedback * (r.decayed_feedback ? alpha : 1.0);
    out.log_alpha[t] = alpha * (dalpha + (r.decayed_feedback ? dfeedback * r.c[t] : 0.0));
    update(gradient, alpha, k, dread);
  }
  return out;
}

}  // namespace comba::tools
