// Every gradient of one chunk of C = kScanChunk tokens, from S before the chunk, dS after it, u and du.
//
// With E_ij = prod_{s=j+1..i} alpha_s (i >= j; products of alpha, not exponentials of sums, so that
// log_alpha = -inf and strong decay stay exact), r_i = E from the chunk's start, w_i = E_{C-1,i}, and
// E0_ij = E_{i-1,j} or, with decayed feedback, E_ij (i > j); e_i = r_{i-1} or r_i:
//   X = Qt K^T,  Y = K K^T,  F = E o (dO U^T),  N0 = -E0 o (dU U^T),  N = diag(c) N0
//   dQt = F K + r o (dO S^T)
//   dK  = (N + N^T) K + F^T Qt + w o (U dS^T) - c e o (dU S^T) - d scale dQt
//   dV = beta dU,  dbeta_i = <dU_i, v_i>,  dc_i = sum_j N0_ij Y_ij - e_i <(dU S^T)_i, k_i>
//   dlog_alpha_t = sum of every term whose decay product contains alpha_t:
//     sum_{i>=t>j} (F o X)_ij  + (N o Y)_ij over i-1>=t>j or, decayed, i>=t>j
//     + sum_{i>=t} r_i <(dO S^T)_i, qt_i> - (i-1>=t or i>=t) c_i e_i <(dU S^T)_i, k_i>
//     + sum_{j<t} w_j <(U dS^T)_j, k_j> + r_{C-1} <S, dS>
// No two of these terms cancel, unlike the difference of row and column sums of the usual form.
//
// Block: 128 threads = 16 row pairs x 8 column lanes; a thread computes rows (y, y+16) and columns
// (x, x+8, x+16, x+24) of each 32 x 32 product. Shared memory at Dk = Dv = 128: 139 KB; at 64: 79 KB.
#pragma once

#include "kernels/cuda/scan_walk.cuh"

namespace comba::kernels::cuda {

constexpr int kGradientThreads = 128;
constexpr int C = kScanChunk;
constexpr int kSquare = C + 1;  // row stride of a C x C matrix, odd against bank conflicts

// Row strides of the [C, D] tiles: one access width more than D, against bank conflicts.
__host__ __device__ constexpr int padded(int dim) { return dim + 4; }

// Shared memory, in floats.
struct GradientTiles {
  float *key, *query;                    // [C, Dk]
  float *grad_o, *update, *grad_update;  // [C, Dv]
  float *state, *grad_state;             // [C, Dv]: C rows of S and dS at a time
  float *decay, *forward, *feedback, *overlap,
      *weight;  // [C, C]: E, F, N0, N0 o Y, terms of dlog_alpha
  float *alpha, *beta, *c, *from_start, *read_decay, *to_end;  // [C]
  float *row_output, *row_read, *row_write, *row_correction;   // [C]
  float* sums;                                                 // [warps]

  __device__ GradientTiles(float* base, int key_dim, int value_dim) {
    float** const keys[] = {&key, &query};
    float** const values[] = {&grad_o, &update, &grad_update, &state, &grad_state};
    float** const squares[] = {&decay, &forward, &feedback, &overlap, &weight};
    float** const vectors[] = {&alpha,  &beta,       &c,        &from_start, &read_decay,
                               &to_end, &row_output, &row_read, &row_write,  &row_correction};
    for (float** p : keys) {
      *p = base;
      base += C * padded(key_dim);
    }
    for (float** p : values) {
      *p = base;
      base += C * padded(value_dim);
    }
    for (float** p : squares) {
      *p = base;
      base += C * kSquare;
    }
    for (float** p : vectors) {
      *p = base;
      base += C;
    }
    sums = base;
  }
};

inline size_t gradient_shared_bytes(int key_dim, int value_dim) {
  const size_t keys = 2 * C * padded(key_dim), values = 5 * C * padded(value_dim);
  const size_t squares = 5 * C * kSquare, vectors = 10 * C, sums = kGradientThreads / 32;
  return (keys + values + squares + vectors + sums) * sizeof(float);
}

// A thread's 2 x 4 results of a 32 x 32 product.
struct Patch {
  float value[2][4] = {};
  static __device__ int row(int i) { return threadIdx.x / 8 + 16 * i; }
  static __device__ int column(int j) { return threadIdx.x % 8 + 8 * j; }
};

// sum += a[row] . b[column] over `depth` (a multiple of 4); a, b: rows of stride `stride`.
__device__ inline void multiply_rows(Patch& sum, const float* a, const float* b, int stride,
                                     int depth) {
  for (int t = 0; t < depth; t += 4) {
    float4 x[2], y[4];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      x[i] = *reinterpret_cast<const float4*>(a + Patch::row(i) * stride + t);
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      y[j] = *reinterpret_cast<const float4*>(b + Patch::column(j) * stride + t);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        sum.value[i][j] += x[i].x * y[j].x + x[i].y * y[j].y + x[i].z * y[j].z + x[i].w * y[j].w;
      }
    }
  }
}

// Copies `count` rows of `dim` floats (global row stride in elements) to shared rows; zero below `count`.
__device__ inline void load_rows(float* shared, const float* global, int64_t stride, int count,
                                 int dim) {
  const int vectors = dim / 4;
  for (int i = threadIdx.x; i < C * vectors; i += kGradientThreads) {
    const int row = i / vectors, at = i % vectors * 4;
    const float4 zero = make_float4(0.f, 0.f, 0.f, 0.f);
    *reinterpret_cast<float4*>(shared + row * padded(dim) + at) =
        row < count ? *reinterpret_cast<const float4*>(global + row * stride + at) : zero;
  }
}

// Keys, queries, do and gates of the chunk; identity tokens beyond its end.
template <typename T>
__device__ void load_chunk(const GradientTiles& s, const ScanParams<float>& p,
                           const ScanGradients<float>& g, const ScanTask& task, int64_t start,
                           int count) {
  const T* q = static_cast<const T*>(p.q);
  const T* k = static_cast<const T*>(p.k);
  const int key_dim = static_cast<int>(p.key_dim), value_dim = static_cast<int>(p.value_dim);
  const float d = p.d[task.direction * p.heads + task.head];
  for (int i = threadIdx.x; i < C * key_dim; i += kGradientThreads) {
    const int token = i / key_dim, at = i % key_dim;
    float key = 0.f, query = 0.f;
    if (token < count) {
      key = to_float(k[task.row(p.k_strides, start + token) + at]);
      query = p.scale * (to_float(q[task.row(p.q_strides, start + token) + at]) - d * key);
    }
    s.key[token * padded(key_dim) + at] = key;
    s.query[token * padded(key_dim) + at] = query;
  }
  for (int i = threadIdx.x; i < C * value_dim; i += kGradientThreads) {
    const int token = i / value_dim, at = i % value_dim;
    s.grad_o[token * padded(value_dim) + at] =
        token < count ? g.grad_o[task.row(g.grad_o_strides, start + token) + at] : 0.f;
  }
  if (threadIdx.x < C) {
    const bool real = threadIdx.x < count;
    const int64_t gate = gate_index(p, task, start + (real ? threadIdx.x : 0));
    s.alpha[threadIdx.x] = real ? expf(p.log_alpha[gate]) : 1.f;
    s.beta[threadIdx.x] = real ? p.beta[gate] : 0.f;
    s.c[threadIdx.x] = real ? p.c[gate] : 0.f;
  }
}

// E and the decays from the chunk's start and to its end. Lane j of the first warp runs down column j.
__device__ inline void build_decay(const GradientTiles& s, bool decayed_feedback) {
  if (threadIdx.x >= C) {
    return;
  }
  const int j = threadIdx.x;
  float product = 0.f;
  for (int i = 0; i < C; ++i) {
    product = i == j ? 1.f : product * s.alpha[i];
    s.decay[i * kSquare + j] = product;
  }
  s.to_end[j] = product;
  float from_start = 1.f, before = 1.f;
  for (int i = 0; i <= j; ++i) {
    before = from_start;
    from_start *= s.alpha[i];
  }
  s.from_start[j] = from_start;
  s.read_decay[j] = decayed_feedback ? from_start : before;
}

// The C x C matrices F, N0, N0 o Y and the pair terms of dlog_alpha.
__device__ inline void build_squares(const GradientTiles& s, int key_dim, int value_dim,
                                     bool decayed_feedback) {
  Patch score, overlap, grad_score, grad_solve;
  multiply_rows(score, s.query, s.key, padded(key_dim), key_dim);
  multiply_rows(overlap, s.key, s.key, padded(key_dim), key_dim);
  multiply_rows(grad_score, s.grad_o, s.update, padded(value_dim), value_dim);
  multiply_rows(grad_solve, s.grad_update, s.update, padded(value_dim), value_dim);
#pragma unroll
  for (int a = 0; a < 2; ++a) {
#pragma unroll
    for (int b = 0; b < 4; ++b) {
      const int i = Patch::row(a), j = Patch::column(b), at = i * kSquare + j;
      const float decay = i >= j ? s.decay[at] : 0.f;
      const float read = i > j ? s.decay[decayed_feedback ? at : at - kSquare] : 0.f;
      const float forward = i >= j ? decay * grad_score.value[a][b] : 0.f;
      const float feedback = i > j ? -read * grad_solve.value[a][b] : 0.f;
      s.forward[at] = forward;
      s.feedback[at] = feedback;
      s.overlap[at] = i > j ? feedback * overlap.value[a][b] : 0.f;
      s.weight[at] = i > j ? forward * score.value[a][b] : 0.f;
    }
  }
}

// sum over the eight lanes that share a row.
__device__ inline float sum_row_lanes(float x) {
  for (int lane = 4; lane > 0; lane /= 2) {
    x += __shfl_xor_sync(0xffffffffu, x, lane);
  }
  return x;
}

// Running row sums of a thread over the tiles of Dk.
struct RowSums {
  float output[2] = {}, read[2] = {}, write[2] = {}, correction[2] = {};
  float states = 0.f;  // <S, dS>
};

// dQ and dK of all C tokens at columns first .. first + 31 of Dk.
__device__ inline void key_columns(const GradientTiles& s, const ScanParams<float>& p,
                                   const ScanGradients<float>& g, const ScanTask& task,
                                   int64_t start, int count, int first, RowSums& rows) {
  const int key_dim = static_cast<int>(p.key_dim), value_dim = static_cast<int>(p.value_dim);
  const int stride = padded(key_dim);
  const float d = p.d[task.direction * p.heads + task.head];
  Patch output, read, write;  // dO S^T, dU S^T, U dS^T
  multiply_rows(output, s.grad_o, s.state, padded(value_dim), value_dim);
  multiply_rows(read, s.grad_update, s.state, padded(value_dim), value_dim);
  multiply_rows(write, s.update, s.grad_state, padded(value_dim), value_dim);
  Patch grad_query, grad_key;
  for (int t = 0; t < C; ++t) {
    float f[2], f_t[2], n[2], keys[4], queries[4];
#pragma unroll
    for (int a = 0; a < 2; ++a) {
      const int i = Patch::row(a);
      f[a] = s.forward[i * kSquare + t];
      f_t[a] = s.forward[t * kSquare + i];
      n[a] = s.c[i] * s.feedback[i * kSquare + t] + s.c[t] * s.feedback[t * kSquare + i];
    }
#pragma unroll
    for (int b = 0; b < 4; ++b) {
      const int column = min(first + Patch::column(b), key_dim - 1);
      keys[b] = s.key[t * stride + column];
      queries[b] = s.query[t * stride + column];
    }
#pragma unroll
    for (int a = 0; a < 2; ++a) {
#pragma unroll
      for (int b = 0; b < 4; ++b) {
        grad_query.value[a][b] += f[a] * keys[b];
        grad_key.value[a][b] += n[a] * keys[b] + f_t[a] * queries[b];
      }
    }
  }
#pragma unroll
  for (int a = 0; a < 2; ++a) {
    const int i = Patch::row(a);
    const int64_t token = gate_index(p, task, start + min(i, count - 1)) * key_dim;
#pragma unroll
    for (int b = 0; b < 4; ++b) {
      const int column = first + Patch::column(b);
      if (column >= key_dim) {
        continue;
      }
      const float key = s.key[i * stride + column], query = s.query[i * stride + column];
      const float from_state = s.from_start[i] * output.value[a][b];
      const float to_state = s.to_end[i] * write.value[a][b];
      const float grad_qt = grad_query.value[a][b] + from_state;
      rows.output[a] += from_state * query;
      rows.read[a] += s.read_decay[i] * read.value[a][b] * key;
      rows.write[a] += to_state * key;
      rows.correction[a] += grad_qt * key;
      if (i < count) {
        g.grad_q[token + column] = p.scale * grad_qt;
        g.grad_k[token + column] = grad_key.value[a][b] + to_state -
                                   s.c[i] * s.read_decay[i] * read.value[a][b] -
                                   d * p.scale * grad_qt;
      }
    }
  }
}

// Writes the row sums to shared memory and reduces <S, dS> over the block in a fixed order.
__device__ inline void finish_rows(const GradientTiles& s, const RowSums& rows) {
#pragma unroll
  for (int a = 0; a < 2; ++a) {
    const float output = sum_row_lanes(rows.output[a]), read = sum_row_lanes(rows.read[a]);
    const float write = sum_row_lanes(rows.write[a]),
                correction = sum_row_lanes(rows.correction[a]);
    if (threadIdx.x % 8 == 0) {
      const int i = Patch::row(a);
      s.row_output[i] = output;
      s.row_read[i] = read;
      s.row_write[i] = write;
      s.row_correction[i] = correction;
    }
  }
  float states = rows.states;
  for (int lane = 16; lane > 0; lane /= 2) {
    states += __shfl_xor_sync(0xffffffffu, states, lane);
  }
  if (threadIdx.x % 32 == 0) {
    s.sums[threadIdx.x / 32] = states;
  }
}

// dlog_alpha and dc of token t (one thread each).
__device__ inline void gate_gradients(const GradientTiles& s, const ScanParams<float>& p,
                                      const ScanGradients<float>& g, int64_t gate, int t) {
  const int late = p.decayed_feedback ? 0 : 1;  // undecayed feedback reads one token earlier
  float grad_c = -s.row_read[t];
  for (int j = 0; j < t; ++j) {
    grad_c += s.overlap[t * kSquare + j];
  }
  float states = 0.f;
  for (int warp = 0; warp < kGradientThreads / 32; ++warp) {
    states += s.sums[warp];
  }
  float sum = s.from_start[C - 1] * states;
  for (int i = t; i < C; ++i) {
    sum += s.row_output[i];
    for (int j = 0; j < t; ++j) {
      sum += s.weight[i * kSquare + j];
    }
  }
  for (int i = t + late; i < C; ++i) {
    float feedback = -s.row_read[i];
    for (int j = 0; j < t; ++j) {
      feedback += s.overlap[i * kSquare + j];
    }
    sum += s.c[i] * feedback;
  }
  for (int j = 0; j < t; ++j) {
    sum += s.row_write[j];
  }
  g.grad_log_alpha[gate] = sum;
  g.grad_c[gate] = grad_c;
}

// dV and dbeta: a warp takes a token.
template <typename T>
__device__ void value_gradients(const GradientTiles& s, const ScanParams<float>& p,
                                const ScanGradients<float>& g, const ScanTask& task, int64_t start,
                                int count) {
  const T* v = static_cast<const T*>(p.v);
  const int value_dim = static_cast<int>(p.value_dim), lane = threadIdx.x % 32;
  for (int token = threadIdx.x / 32; token < count; token += kGradientThreads / 32) {
    const int64_t gate = gate_index(p, task, start + token);
    const T* row = v + task.row(p.v_strides, start + token);
    float grad_beta = 0.f;
    for (int at = lane; at < value_dim; at += 32) {
      const float grad_update = s.grad_update[token * padded(value_dim) + at];
      g.grad_v[gate * value_dim + at] = s.beta[token] * grad_update;
      grad_beta += grad_update * to_float(row[at]);
    }
    for (int step = 16; step > 0; step /= 2) {
      grad_beta += __shfl_xor_sync(0xffffffffu, grad_beta, step);
    }
    if (lane == 0) {
      g.grad_beta[gate] = grad_beta;
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kGradientThreads)
    scan_gradients_kernel(const ScanParams<float> p, const ScanGradients<float> g,
                          float* grad_d_partial, const ScanScratch scratch) {
  extern __shared__ __align__(16) float shared[];
  const int key_dim = static_cast<int>(p.key_dim), value_dim = static_cast<int>(p.value_dim);
  const GradientTiles s(shared, key_dim, value_dim);
  const int64_t local = blockIdx.x / scratch.chunks, chunk = blockIdx.x % scratch.chunks;
  const ScanTask task(p, scratch.first + local);
  const int64_t start = chunk * C;
  const int count = static_cast<int>(min(int64_t{C}, p.length - start));
  const int64_t rows_at = (local * p.length + start) * value_dim;
  load_chunk<T>(s, p, g, task, start, count);
  load_rows(s.update, scratch.update + rows_at, value_dim, count, value_dim);
  load_rows(s.grad_update, scratch.grad_update + rows_at, value_dim, count, value_dim);
  __syncthreads();
  build_decay(s, p.decayed_feedback);
  __syncthreads();
  build_squares(s, key_dim, value_dim, p.decayed_feedback);

  RowSums rows;
  const int64_t matrix = (local * scratch.chunks + chunk) * key_dim * value_dim;
  for (int first = 0; first < key_dim; first += C) {
    const int height = min(C, key_dim - first);
    __syncthreads();
    load_rows(s.state, scratch.state + matrix + int64_t{first} * value_dim, value_dim, height,
              value_dim);
    load_rows(s.grad_state, scratch.grad_state + matrix + int64_t{first} * value_dim, value_dim,
              height, value_dim);
    __syncthreads();
    for (int i = threadIdx.x; i < C * value_dim; i += kGradientThreads) {
      const int at = i / value_dim * padded(value_dim) + i % value_dim;
      rows.states += s.state[at] * s.grad_state[at];
    }
    key_columns(s, p, g, task, start, count, first, rows);
  }
  finish_rows(s, rows);
  __syncthreads();
  value_gradients<T>(s, p, g, task, start, count);
  if (threadIdx.x < count) {
    gate_gradients(s, p, g, gate_index(p, task, start + threadIdx.x), threadIdx.x);
  }
  if (threadIdx.x == 0) {
    float correction = 0.f;
    for (int i = 0; i < count; ++i) {
      correction += s.row_correction[i];
    }
    grad_d_partial[blockIdx.x] = -p.scale * correction;
  }
}

}  // namespace comba::kernels::cuda
