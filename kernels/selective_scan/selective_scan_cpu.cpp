// The CPU backend of comba::selective_scan: threads take blocks of channels of one batch element, over which loops vectorise.
#include "kernels/selective_scan/selective_scan_operators.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

namespace comba::kernels {
namespace {

constexpr int64_t kChannels = 64;  // of a block

template <typename T>
T sigmoid(T x) {
  return T(1) / (T(1) + std::exp(-x));
}
template <typename T>
T softplus(T x) {
  return std::max(x, T(0)) + std::log1p(std::exp(-std::abs(x)));
}

// Rows [B, T, ..] in the accumulation dtype, contiguous.
template <typename T>
struct Rows {
  at::Tensor tensor;
  int64_t length = 0, columns = 0;
  Rows(const at::Tensor& x, const at::Tensor& like)
      : tensor(x.defined() ? x.to(like.scalar_type()).contiguous() : x) {
    if (x.defined()) {
      length = x.size(1);
      columns = x.size(2);
    }
  }
  bool given() const { return tensor.defined(); }
  T* at(int64_t b, int64_t t) const {
    return static_cast<T*>(tensor.data_ptr()) + (b * length + t) * columns;
  }
};

template <typename T>
const T* values(const at::Tensor& x) {
  return x.defined() ? x.const_data_ptr<T>() : nullptr;
}

template <typename T>
struct Scan {
  explicit Scan(const SelectiveScanProblem& p)
      : u(p.u, p.A),
        delta(p.delta, p.A),
        B(p.B, p.A),
        C(p.C, p.A),
        z(p.z, p.A),
        A(p.A.t().contiguous()),
        D(values<T>(p.D)),
        bias(values<T>(p.delta_bias)),
        batch(p.batch()),
        length(p.length()),
        channels(p.channels()),
        states(p.states()),
        blocks((channels + kChannels - 1) / kChannels),
        reverse(p.reverse) {}

  // Calls body(batch element, block, its first channel, their number) on the machine's threads.
  template <typename Body>
  void for_each_block(const Body& body) const {
    at::parallel_for(0, batch * blocks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t first = i % blocks * kChannels;
        body(i / blocks, i % blocks, first, std::min(kChannels, channels - first));
      }
    });
  }
  int64_t token(int64_t step) const { return reverse ? length - 1 - step : step; }
  // dt of a token's channels.
  void steps(int64_t b, int64_t t, int64_t first, int64_t count, T* dt) const {
    const T* row = delta.at(b, t) + first;
    for (int64_t c = 0; c < count; ++c) {
      dt[c] = softplus(row[c] + (bias != nullptr ? bias[first + c] : T(0)));
    }
  }
  // The states after a token from those before it; both [N][kChannels].
  void advance(int64_t b, int64_t t, int64_t first, int64_t count, const T* dt, const T* before,
               T* after) const {
    const T *row = u.at(b, t) + first, *write = B.at(b, t), *rates = values<T>(A) + first;
    for (int64_t n = 0; n < states; ++n) {
      for (int64_t c = 0; c < count; ++c) {
        after[n * kChannels + c] =
            std::exp(dt[c] * rates[n * channels + c]) * before[n * kChannels + c] +
            dt[c] * row[c] * write[n];
      }
    }
  }
  // y before z's factor.
  void read(int64_t b, int64_t t, int64_t first, int64_t count, const T* state, T* out) const {
    const T *row = u.at(b, t) + first, *weights = C.at(b, t);
    for (int64_t c = 0; c < count; ++c) {
      out[c] = D != nullptr ? D[first + c] * row[c] : T(0);
    }
    for (int64_t n = 0; n < states; ++n) {
      for (int64_t c = 0; c < count; ++c) {
        out[c] += weights[n] * state[n * kChannels + c];
      }
    }
  }

  Rows<T> u, delta, B, C, z;
  at::Tensor A;  // [N, C]
  const T *D, *bias;
  int64_t batch, length, channels, states, blocks;
  bool reverse;
};

template <typename T>
void run_forward(const SelectiveScanProblem& problem, const at::Tensor& y) {
  const Scan<T> scan(problem);
  const at::Tensor wide = at::empty(y.sizes(), problem.A.options());
  const Rows<T> out(wide, wide);
  scan.for_each_block([&](int64_t b, int64_t, int64_t first, int64_t count) {
    std::vector<T> state(static_cast<size_t>(scan.states * kChannels), T(0));
    std::array<T, kChannels> dt;
    for (int64_t step = 0; step < scan.length; ++step) {
      const int64_t t = scan.token(step);
      T* row = out.at(b, t) + first;
      scan.steps(b, t, first, count, dt.data());
      scan.advance(b, t, first, count, dt.data(), state.data(), state.data());
      scan.read(b, t, first, count, state.data(), row);
      for (int64_t c = 0; scan.z.given() && c < count; ++c) {
        const T z = scan.z.at(b, t)[first + c];
        row[c] *= z * sigmoid(z);
      }
    }
  });
  y.copy_(wide);
}

// Gradients in the accumulation dtype. What several blocks or batch elements add up to has a part of each.
template <typename T>
struct Sums {
  explicit Sums(const Scan<T>& scan, const SelectiveScanProblem& p)
      : u(at::empty(p.u.sizes(), p.A.options()), p.A),
        delta(at::empty(p.u.sizes(), p.A.options()), p.A),
        z(p.z.defined() ? at::empty(p.u.sizes(), p.A.options()) : at::Tensor(), p.A),
        B(at::zeros({scan.blocks, scan.batch, scan.length, scan.states}, p.A.options())),
        C(at::zeros(B.sizes(), p.A.options())),
        A(at::zeros({scan.batch, scan.states, scan.channels}, p.A.options())),
        D(at::zeros({scan.batch, scan.channels}, p.A.options())),
        bias(at::zeros({scan.batch, scan.channels}, p.A.options())) {}
  Rows<T> u, delta, z;
  at::Tensor B, C;     // [blocks, B, T, N]
  at::Tensor A;        // [B, N, C]
  at::Tensor D, bias;  // [B, C]
};

// One block of one batch element, from its last step to its first.
template <typename T>
class BlockGradients {
 public:
  BlockGradients(const Scan<T>& scan, const Rows<T>& grad_y, Sums<T>& sums)
      : scan_(scan), grad_y_(grad_y), sums_(sums) {}

  void run(int64_t b, int64_t block, int64_t first, int64_t count) {
    const int64_t size = scan_.states * kChannels;
    std::vector<T> kept(static_cast<size_t>((scan_.length + 1) * size), T(0));
    std::vector<T> carry(static_cast<size_t>(size), T(0));  // of h_t from all later tokens
    std::array<T, kChannels> dt;
    for (int64_t step = 0; step < scan_.length; ++step) {
      const int64_t t = scan_.token(step);
      scan_.steps(b, t, first, count, dt.data());
      scan_.advance(b, t, first, count, dt.data(), &kept[step * size], &kept[(step + 1) * size]);
    }
    for (int64_t step = scan_.length - 1; step >= 0; --step) {
      const int64_t t = scan_.token(step);
      std::array<T, kChannels> dy, ddt{};
      scan_.steps(b, t, first, count, dt.data());
      through_gate(b, t, first, count, &kept[(step + 1) * size], dy.data());
      through_states(b, t, block, first, count, dt.data(), dy.data(), &kept[step * size],
                     carry.data(), ddt.data());
      T *delta = sums_.delta.at(b, t) + first, *bias = part(sums_.bias, b) + first;
      for (int64_t c = 0; c < count; ++c) {
        delta[c] = ddt[c] * -std::expm1(-dt[c]);  // softplus' derivative, 1 - exp(-dt)
        bias[c] += delta[c];
      }
    }
  }

 private:
  T* part(const at::Tensor& x, int64_t b) const {
    return x.mutable_data_ptr<T>() + b * x.stride(0);
  }

  // z's gradient, that of D and what D gives to u's; dy: of what z multiplies.
  void through_gate(int64_t b, int64_t t, int64_t first, int64_t count, const T* state, T* dy) {
    const T *above = grad_y_.at(b, t) + first, *u = scan_.u.at(b, t) + first;
    std::array<T, kChannels> y;
    scan_.read(b, t, first, count, state, y.data());
    T *du = sums_.u.at(b, t) + first, *dD = part(sums_.D, b) + first;
    for (int64_t c = 0; c < count; ++c) {
      dy[c] = above[c];
      if (scan_.z.given()) {
        const T z = scan_.z.at(b, t)[first + c], share = sigmoid(z);
        sums_.z.at(b, t)[first + c] = above[c] * y[c] * share * (T(1) + z * (T(1) - share));
        dy[c] *= z * share;
      }
      du[c] = scan_.D != nullptr ? dy[c] * scan_.D[first + c] : T(0);
      dD[c] += dy[c] * u[c];
    }
  }

  void through_states(int64_t b, int64_t t, int64_t block, int64_t first, int64_t count,
                      const T* dt, const T* dy, const T* before, T* carry, T* ddt) {
    const T *u = scan_.u.at(b, t) + first, *write = scan_.B.at(b, t), *weights = scan_.C.at(b, t);
    const int64_t row = ((block * scan_.batch + b) * scan_.length + t) * scan_.states;
    T *dB = sums_.B.template mutable_data_ptr<T>() + row,
      *dC = sums_.C.template mutable_data_ptr<T>() + row, *du = sums_.u.at(b, t) + first;
    for (int64_t n = 0; n < scan_.states; ++n) {
      const T* rates = values<T>(scan_.A) + n * scan_.channels + first;
      T* dA = part(sums_.A, b) + n * scan_.channels + first;
      for (int64_t c = 0; c < count; ++c) {
        const int64_t i = n * kChannels + c;
        const T alpha = std::exp(dt[c] * rates[c]), decayed = alpha * before[i];
        const T g = carry[i] + dy[c] * weights[n];
        dC[n] += dy[c] * (decayed + dt[c] * u[c] * write[n]);
        dB[n] += g * dt[c] * u[c];
        ddt[c] += g * (rates[c] * decayed + u[c] * write[n]);
        dA[c] += g * dt[c] * decayed;
        du[c] += g * dt[c] * write[n];
        carry[i] = g * alpha;
      }
    }
  }

  const Scan<T>& scan_;
  const Rows<T>& grad_y_;
  Sums<T>& sums_;
};

template <typename T>
void run_backward(const SelectiveScanProblem& problem, const at::Tensor& grad_y,
                  SelectiveScanGradients& gradients) {
  const Scan<T> scan(problem);
  const Rows<T> above(grad_y, problem.A);
  Sums<T> sums(scan, problem);
  scan.for_each_block([&](int64_t b, int64_t block, int64_t first, int64_t count) {
    BlockGradients<T>(scan, above, sums).run(b, block, first, count);
  });
  gradients.u.copy_(sums.u.tensor);
  gradients.delta.copy_(sums.delta.tensor);
  if (gradients.z.defined()) {
    gradients.z.copy_(sums.z.tensor);
  }
  gradients.A = sums.A.sum(0).t().contiguous();
  gradients.B = sums.B.sum(0);
  gradients.C = sums.C.sum(0);
  gradients.D = sums.D.sum(0);
  gradients.delta_bias = sums.bias.sum(0);
}

void forward(const SelectiveScanProblem& problem, const at::Tensor& y) {
  problem.A.scalar_type() == at::kDouble ? run_forward<double>(problem, y)
                                         : run_forward<float>(problem, y);
}

void backward(const SelectiveScanProblem& problem, const at::Tensor& grad_y,
              SelectiveScanGradients& gradients) {
  problem.A.scalar_type() == at::kDouble ? run_backward<double>(problem, grad_y, gradients)
                                         : run_backward<float>(problem, grad_y, gradients);
}

constexpr SelectiveScanBackend kBackend{&forward, &backward};

}  // namespace

TORCH_LIBRARY_IMPL(comba, CPU, m) { register_selective_scan<&kBackend>(m); }

}  // namespace comba::kernels
