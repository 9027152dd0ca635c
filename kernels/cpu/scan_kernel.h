// One task of the scan on a CPU, forward and backward, in vectors of W lanes over the columns of S (Dv).
//
// Forward: tokens in blocks of N. With decay products E_ij = prod_{s=j+1..i} alpha_s inside the block,
//   x_i = S^T k_i, y_i = S^T qt_i                              one read of S for all N tokens
//   u_i = beta_i v_i - c_i e_i x_i - sum_{j<i} A_ij u_j        A_ij = c_i (E_ij or E_{i-1,j}) <k_i, k_j>
//   o_i = E_i0' y_i + sum_{j<=i} E_ij <qt_i, k_j> u_j
//   S  <- E_N S + sum_j E_{N-1,j} k_j u_j^T                    one read and write of S
// Products instead of exponentials of cumulated sums: exact for log_alpha = -inf and free of cancellation.
// Backward: states at every kChunk-th token are kept, those between are recomputed, tokens run backward:
//   dS += qt do^T;  du = dS^T k;  dw = -c' du;  dS <- alpha dS + k dw^T     (c' = c alpha if decayed)
//   dqt = S_t do,  dk = dS u + S_{t-1} dw,  dalpha = <dS, S_{t-1}> (+ feedback)
//
// This header is compiled under several instruction sets, so everything lives in an unnamed namespace: an
// inline function shared across them could be linked in the wrong version.
#pragma once

#include "kernels/cpu/mixer_kernel.h"
#include "kernels/cpu/scan_cpu.h"
#include "kernels/cpu/simd.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace comba::kernels {
namespace {

// The scalars and rows of one task.
template <typename Scalar, int W>
class TaskReader {
 public:
  TaskReader(const ScanParams<Scalar>& params, int64_t n)
      : p(params), task(params, n), columns((p.value_dim + W - 1) / W * W) {}

  const Scalar* k(int64_t s) const {
    return static_cast<const Scalar*>(p.k) + task.row(p.k_strides, s);
  }
  const Scalar* q(int64_t s) const {
    return static_cast<const Scalar*>(p.q) + task.row(p.q_strides, s);
  }
  const Scalar* v(int64_t s) const {
    return static_cast<const Scalar*>(p.v) + task.row(p.v_strides, s);
  }
  Scalar correction() const { return p.d[task.direction * p.heads + task.head]; }
  int64_t gate(int64_t s) const {
    return ((task.direction * p.batch + task.batch) * p.length + task.time(s)) * p.heads +
           task.head;
  }
  // qt = scale (q - d k)
  void read_query(int64_t s, Scalar* qt) const {
    const Scalar *query = q(s), *key = k(s), d = correction();
    for (int64_t i = 0; i < p.key_dim; ++i) {
      qt[i] = p.scale * (query[i] - d * key[i]);
    }
  }
  // Copies a row of Dv values into one of `columns` values, zero beyond Dv.
  void pad(const Scalar* row, Scalar* padded) const {
    std::memcpy(padded, row, p.value_dim * sizeof(Scalar));
    std::fill(padded + p.value_dim, padded + columns, Scalar(0));
  }
  void load_state(const Scalar* states, int64_t n, Scalar* state) const {
    for (int64_t i = 0; i < p.key_dim; ++i) {
      if (states != nullptr) {
        pad(states + (n * p.key_dim + i) * p.value_dim, state + i * columns);
      } else {
        std::fill(state + i * columns, state + (i + 1) * columns, Scalar(0));
      }
    }
  }
  void store_state(const Scalar* state, Scalar* states, int64_t n) const {
    for (int64_t i = 0; i < p.key_dim; ++i) {
      std::memcpy(states + (n * p.key_dim + i) * p.value_dim, state + i * columns,
                  p.value_dim * sizeof(Scalar));
    }
  }

  const ScanParams<Scalar>& p;
  const ScanTask task;
  const int64_t columns;  // Dv rounded up to whole vectors
};

// Scratch of the forward blocks.
template <typename Scalar, int N>
struct Block {
  const Scalar* k[N];
  const Scalar* qt[N];
  Scalar beta[N];
  Scalar from_start[N];  // decay from the block's start to token i
  Scalar feedback[N];    // c_i e_i
  Scalar to_end[N];      // decay from token i to the block's end
  Scalar solve[N][N];    // A_ij
  Scalar output[N][N];   // E_ij <qt_i, k_j>
  Scalar total;          // decay across the block
};

template <typename Scalar, int W, int N>
Block<Scalar, N> prepare_block(const TaskReader<Scalar, W>& reader, int64_t s, Scalar* query_rows) {
  const auto& p = reader.p;
  Block<Scalar, N> block;
  Scalar alpha[N], c[N], decay[N][N];
  for (int i = 0; i < N; ++i) {
    const int64_t gate = reader.gate(s + i);
    alpha[i] = std::exp(p.log_alpha[gate]);
    c[i] = p.c[gate];
    block.beta[i] = p.beta[gate];
    block.k[i] = reader.k(s + i);
    reader.read_query(s + i, query_rows + i * p.key_dim);
    block.qt[i] = query_rows + i * p.key_dim;
  }
  Scalar before = 1;
  for (int i = 0; i < N; ++i) {
    const Scalar after = before * alpha[i];
    block.feedback[i] = c[i] * (p.decayed_feedback ? after : before);
    block.from_start[i] = before = after;
    decay[i][i] = 1;
    for (int j = 0; j < i; ++j) {
      decay[i][j] = decay[i - 1][j] * alpha[i];
      const Scalar read = p.decayed_feedback ? decay[i][j] : decay[i - 1][j];
      block.solve[i][j] = c[i] * read * dot<Scalar, W>(block.k[i], block.k[j], p.key_dim);
    }
    for (int j = 0; j <= i; ++j) {
      block.output[i][j] = decay[i][j] * dot<Scalar, W>(block.qt[i], block.k[j], p.key_dim);
    }
  }
  block.total = before;
  for (int i = 0; i < N; ++i) {
    block.to_end[i] = decay[N - 1][i];
  }
  return block;
}

// Advances NB vectors of columns by one block. v and o are rows of `columns` values.
template <typename Scalar, int W, int N, int NB>
inline void advance_columns(const Block<Scalar, N>& block, int64_t key_dim, int64_t columns,
                            const Scalar* v, Scalar* o, Scalar* state) {
  using V = Vector<Scalar, W>;
  V x[N][NB], y[N][NB];
  for (int i = 0; i < N; ++i) {
    for (int m = 0; m < NB; ++m) {
      x[i][m] = y[i][m] = V{};
    }
  }
  for (int64_t r = 0; r < key_dim; ++r) {
    V row[NB];
#pragma GCC unroll 8
    for (int m = 0; m < NB; ++m) {
      row[m] = lanes<Scalar, W>(state + r * columns + m * W);
    }
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) {
      const Scalar key = block.k[i][r], query = block.qt[i][r];
#pragma GCC unroll 8
      for (int m = 0; m < NB; ++m) {
        x[i][m] += row[m] * key;
        y[i][m] += row[m] * query;
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) {
#pragma GCC unroll 8
    for (int m = 0; m < NB; ++m) {
      V u = block.beta[i] * lanes<Scalar, W>(v + i * columns + m * W) - block.feedback[i] * x[i][m];
      for (int j = 0; j < i; ++j) {
        u -= block.solve[i][j] * x[j][m];
      }
      x[i][m] = u;
      V out = block.from_start[i] * y[i][m];
      for (int j = 0; j <= i; ++j) {
        out += block.output[i][j] * x[j][m];
      }
      lanes<Scalar, W>(o + i * columns + m * W) = out;
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) {
    for (int m = 0; m < NB; ++m) {
      x[i][m] *= block.to_end[i];
    }
  }
  for (int64_t r = 0; r < key_dim; ++r) {
#pragma GCC unroll 8
    for (int m = 0; m < NB; ++m) {
      V& row = lanes<Scalar, W>(state + r * columns + m * W);
      V sum = row * block.total;
#pragma GCC unroll 8
      for (int i = 0; i < N; ++i) {
        sum += x[i][m] * block.k[i][r];
      }
      row = sum;
    }
  }
}

// Calls body.template operator()<NB>(first column) for groups of at most kMax vectors covering `columns`.
template <int W, int kMax, typename Body>
inline void for_column_groups(int64_t columns, const Body& body) {
  int64_t column = 0;
  if constexpr (kMax >= 4) {
    for (; column + 4 * W <= columns; column += 4 * W) {
      body.template operator()<4>(column);
    }
  }
  for (; column + 2 * W <= columns; column += 2 * W) {
    body.template operator()<2>(column);
  }
  for (; column < columns; column += W) {
    body.template operator()<1>(column);
  }
}

// N tokens from s on: rows of v in, rows of o out, state advanced.
template <typename Scalar, int W, int N>
void forward_block(const TaskReader<Scalar, W>& reader, int64_t s, Scalar* scratch, Scalar* state,
                   Scalar* o) {
  const auto& p = reader.p;
  const int64_t columns = reader.columns;
  Scalar* v_rows = scratch;
  Scalar* o_rows = v_rows + N * columns;
  const auto block = prepare_block<Scalar, W, N>(reader, s, o_rows + N * columns);
  for (int i = 0; i < N; ++i) {
    reader.pad(reader.v(s + i), v_rows + i * columns);
  }
  for_column_groups<W, 2>(columns, [&]<int NB>(int64_t column) {
    advance_columns<Scalar, W, N, NB>(block, p.key_dim, columns, v_rows + column, o_rows + column,
                                      state + column);
  });
  for (int i = 0; i < N; ++i) {
    std::memcpy(o + reader.gate(s + i) * p.value_dim, o_rows + i * columns,
                p.value_dim * sizeof(Scalar));
  }
}

template <typename Scalar, int W, int N>
void forward_task(const ScanParams<Scalar>& p, const ScanOutputs<Scalar>& out, int64_t n) {
  const TaskReader<Scalar, W> reader(p, n);
  std::vector<Scalar> state(p.key_dim * reader.columns);
  std::vector<Scalar> scratch(N * (2 * reader.columns + p.key_dim));
  reader.load_state(p.initial_state, n, state.data());
  int64_t s = 0;
  for (; s + N <= p.length; s += N) {
    forward_block<Scalar, W, N>(reader, s, scratch.data(), state.data(), out.o);
  }
  for (; s < p.length; ++s) {
    forward_block<Scalar, W, 1>(reader, s, scratch.data(), state.data(), out.o);
  }
  reader.store_state(state.data(), out.final_state, n);
}

constexpr int64_t kChunk = 16;  // tokens between kept states

// Working memory of one backward task.
template <typename Scalar>
struct BackwardScratch {
  std::vector<Scalar> checkpoints;  // [chunks][Dk][columns] state before each chunk
  std::vector<Scalar> states;       // [kChunk + 1][Dk][columns] states inside the chunk
  std::vector<Scalar> updates;      // [kChunk][columns] u_t
  std::vector<Scalar> reads;        // [kChunk][columns] S_{t-1}^T k_t
  std::vector<Scalar> queries;      // [kChunk][Dk] qt_t
  std::vector<Scalar> grad_state;   // [Dk][columns] dS
  std::vector<Scalar> rows;         // [3][columns] do_t, v_t, du_t
  std::vector<Scalar> keys;         // [2][Dk] dqt_t, dk_t
};

// One token forward from `from` to `to` = alpha from + k u^T, keeping u and the feedback read.
template <typename Scalar, int W>
void step_state(const TaskReader<Scalar, W>& reader, int64_t s, const Scalar* from, Scalar* to,
                Scalar* read, Scalar* update, Scalar* padded_v) {
  using V = Vector<Scalar, W>;
  const auto& p = reader.p;
  const int64_t gate = reader.gate(s), columns = reader.columns;
  const Scalar alpha = std::exp(p.log_alpha[gate]), beta = p.beta[gate];
  const Scalar feedback = p.c[gate] * (p.decayed_feedback ? alpha : Scalar(1));
  const Scalar* key = reader.k(s);
  reader.pad(reader.v(s), padded_v);
  for_column_groups<W, 4>(columns, [&]<int NB>(int64_t column) {
    V x[NB] = {};
    for (int64_t r = 0; r < p.key_dim; ++r) {
#pragma GCC unroll 8
      for (int m = 0; m < NB; ++m) {
        x[m] += lanes<Scalar, W>(from + r * columns + column + m * W) * key[r];
      }
    }
    V u[NB];
    for (int m = 0; m < NB; ++m) {
      lanes<Scalar, W>(read + column + m * W) = x[m];
      u[m] = beta * lanes<Scalar, W>(padded_v + column + m * W) - feedback * x[m];
      lanes<Scalar, W>(update + column + m * W) = u[m];
    }
    for (int64_t r = 0; r < p.key_dim; ++r) {
#pragma GCC unroll 8
      for (int m = 0; m < NB; ++m) {
        const int64_t at = r * columns + column + m * W;
        lanes<Scalar, W>(to + at) = lanes<Scalar, W>(from + at) * alpha + u[m] * key[r];
      }
    }
  });
}

// The token's part of dS and every gradient that needs it. before, after: S_{t-1}, S_t.
template <typename Scalar, int W, int NB>
inline Scalar backward_columns(int64_t key_dim, int64_t columns, const Scalar* key,
                               const Scalar* qt, Scalar alpha, Scalar feedback,
                               const Scalar* before, const Scalar* after, const Scalar* grad_o,
                               const Scalar* update, Scalar* grad_update, Scalar* grad_state,
                               Scalar* grad_qt, Scalar* grad_key) {
  using V = Vector<Scalar, W>;
  V out[NB], u[NB], du[NB] = {}, grad_alpha{};
  for (int m = 0; m < NB; ++m) {
    out[m] = lanes<Scalar, W>(grad_o + m * W);
    u[m] = lanes<Scalar, W>(update + m * W);
  }
  for (int64_t r = 0; r < key_dim; ++r) {
    V query_sum{}, key_sum{};
#pragma GCC unroll 8
    for (int m = 0; m < NB; ++m) {
      const int64_t at = r * columns + m * W;
      V& row = lanes<Scalar, W>(grad_state + at);
      const V ds = row + out[m] * qt[r];
      row = ds;
      du[m] += ds * key[r];
      key_sum += ds * u[m];
      query_sum += lanes<Scalar, W>(after + at) * out[m];
      grad_alpha += ds * lanes<Scalar, W>(before + at);
    }
    grad_qt[r] += horizontal_sum<Scalar, W>(query_sum);
    grad_key[r] += horizontal_sum<Scalar, W>(key_sum);
  }
  V dw[NB];
  for (int m = 0; m < NB; ++m) {
    lanes<Scalar, W>(grad_update + m * W) = du[m];
    dw[m] = -feedback * du[m];
  }
  for (int64_t r = 0; r < key_dim; ++r) {
    V key_sum{};
#pragma GCC unroll 8
    for (int m = 0; m < NB; ++m) {
      const int64_t at = r * columns + m * W;
      V& row = lanes<Scalar, W>(grad_state + at);
      key_sum += lanes<Scalar, W>(before + at) * dw[m];
      row = row * alpha + dw[m] * key[r];
    }
    grad_key[r] += horizontal_sum<Scalar, W>(key_sum);
  }
  return horizontal_sum<Scalar, W>(grad_alpha);
}

template <typename Scalar, int W>
void backward_token(const TaskReader<Scalar, W>& reader, const ScanGradients<Scalar>& g, int64_t s,
                    int64_t place, BackwardScratch<Scalar>& scratch) {
  const auto& p = reader.p;
  const int64_t columns = reader.columns, size = p.key_dim * columns, gate = reader.gate(s);
  const Scalar *key = reader.k(s), *qt = scratch.queries.data() + place * p.key_dim;
  const Scalar* before = scratch.states.data() + place * size;
  const Scalar* update = scratch.updates.data() + place * columns;
  const Scalar* read = scratch.reads.data() + place * columns;
  Scalar *grad_o = scratch.rows.data(), *v = grad_o + columns, *du = v + columns;
  Scalar *grad_qt = scratch.keys.data(), *grad_key = grad_qt + p.key_dim;
  const Scalar alpha = std::exp(p.log_alpha[gate]), c = p.c[gate];
  const Scalar decay = p.decayed_feedback ? alpha : Scalar(1);
  reader.pad(g.grad_o + reader.task.row(g.grad_o_strides, s), grad_o);
  reader.pad(reader.v(s), v);
  std::fill(scratch.keys.begin(), scratch.keys.end(), Scalar(0));

  Scalar grad_alpha = 0;
  for_column_groups<W, 4>(columns, [&]<int NB>(int64_t column) {
    grad_alpha += backward_columns<Scalar, W, NB>(
        p.key_dim, columns, key, qt, alpha, c * decay, before + column, before + size + column,
        grad_o + column, update + column, du + column, scratch.grad_state.data() + column, grad_qt,
        grad_key);
  });
  const Scalar grad_feedback = -dot<Scalar, W>(du, read, columns);
  if (p.decayed_feedback) {
    grad_alpha += c * grad_feedback;
  }
  g.grad_c[gate] = decay * grad_feedback;
  g.grad_beta[gate] = dot<Scalar, W>(du, v, columns);
  g.grad_log_alpha[gate] = alpha * grad_alpha;
  for (int64_t j = 0; j < p.value_dim; ++j) {
    g.grad_v[gate * p.value_dim + j] = p.beta[gate] * du[j];
  }
  const Scalar d = reader.correction();
  Scalar correction = 0;
  for (int64_t i = 0; i < p.key_dim; ++i) {
    g.grad_q[gate * p.key_dim + i] = p.scale * grad_qt[i];
    g.grad_k[gate * p.key_dim + i] = grad_key[i] - d * p.scale * grad_qt[i];
    correction -= p.scale * grad_qt[i] * key[i];
  }
  g.grad_d[(reader.task.direction * p.batch + reader.task.batch) * p.heads + reader.task.head] +=
      correction;
}

template <typename Scalar, int W>
void backward_task(const ScanParams<Scalar>& p, const ScanGradients<Scalar>& g, int64_t n) {
  const TaskReader<Scalar, W> reader(p, n);
  const int64_t columns = reader.columns, size = p.key_dim * columns;
  const int64_t chunks = (p.length + kChunk - 1) / kChunk;
  BackwardScratch<Scalar> scratch;
  scratch.checkpoints.resize((chunks + 1) * size);
  scratch.states.resize((kChunk + 1) * size);
  scratch.updates.resize(kChunk * columns);
  scratch.reads.resize(kChunk * columns);
  scratch.queries.resize(kChunk * p.key_dim);
  scratch.grad_state.resize(size);
  scratch.rows.resize(3 * columns);
  scratch.keys.resize(2 * p.key_dim);

  reader.load_state(p.initial_state, n, scratch.checkpoints.data());
  for (int64_t s = 0; s < (chunks - 1) * kChunk; ++s) {
    // The first token of a chunk reads the kept state; the others advance the next one in place.
    Scalar* kept = scratch.checkpoints.data() + s / kChunk * size;
    step_state<Scalar, W>(reader, s, s % kChunk == 0 ? kept : kept + size, kept + size,
                          scratch.reads.data(), scratch.updates.data(), scratch.rows.data());
  }
  reader.load_state(g.grad_final_state, n, scratch.grad_state.data());
  for (int64_t chunk = chunks - 1; chunk >= 0; --chunk) {
    const int64_t first = chunk * kChunk, count = std::min(kChunk, p.length - first);
    std::memcpy(scratch.states.data(), scratch.checkpoints.data() + chunk * size,
                size * sizeof(Scalar));
    for (int64_t i = 0; i < count; ++i) {
      step_state<Scalar, W>(reader, first + i, scratch.states.data() + i * size,
                            scratch.states.data() + (i + 1) * size,
                            scratch.reads.data() + i * columns,
                            scratch.updates.data() + i * columns, scratch.rows.data());
      reader.read_query(first + i, scratch.queries.data() + i * p.key_dim);
    }
    for (int64_t i = count - 1; i >= 0; --i) {
      backward_token<Scalar, W>(reader, g, first + i, i, scratch);
    }
  }
  reader.store_state(scratch.grad_state.data(), g.grad_initial_state, n);
}

template <typename Scalar, int W, int N>
CpuKernels<Scalar> kernels_of() {
  return {&forward_task<Scalar, W, N>, &backward_task<Scalar, W>, &convolve_sample<Scalar, W>,
          &normalize_rows<Scalar, W>, &merge_norm_gate<Scalar, W>};
}

}  // namespace
}  // namespace comba::kernels
