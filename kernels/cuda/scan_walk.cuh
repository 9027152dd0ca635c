// The two serial walks over the tokens: S forward, dS in reverse. See scan_cuda.h.
//
// Block: kScanColumns threads, one column of S each; grid: (tasks, ceil(Dv / kScanColumns)).
// Shared memory: one tile of kWalkTile tokens of k and qt in fp32, v or do, and the gates:
// (2 Dk + kScanColumns + 4) * kWalkTile * 4 bytes, 20.7 KB at Dk = 128.
#pragma once

#include "kernels/cuda/scan_cuda.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace comba::kernels::cuda {

constexpr int kWalkTile = 16;  // tokens staged at a time; divides kScanChunk

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__half x) { return __half2float(x); }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

template <int Dk>
struct WalkTile {
  float key[kWalkTile][Dk];
  float query[kWalkTile][Dk];  // scale (q - d k)
  float value[kWalkTile][kScanColumns];
  float alpha[kWalkTile], beta[kWalkTile], feedback[kWalkTile];
};

// Index of (task, token s) in [R, B, T, H] and, times D, in [R, B, T, H, D].
__device__ inline int64_t gate_index(const ScanParams<float>& p, const ScanTask& task, int64_t s) {
  return ((task.direction * p.batch + task.batch) * p.length + task.time(s)) * p.heads + task.head;
}

// Stages tokens s .. s + count - 1. `rows` (v, or do) is read at this block's columns.
template <int Dk, typename T, typename Row>
__device__ void load_tile(WalkTile<Dk>& tile, const ScanParams<float>& p, const ScanTask& task,
                          int64_t s, int count, const Row* rows, const RowStrides& row_strides) {
  const T* q = static_cast<const T*>(p.q);
  const T* k = static_cast<const T*>(p.k);
  const float d = p.d[task.direction * p.heads + task.head];
  for (int i = threadIdx.x; i < count * Dk; i += kScanColumns) {
    const int token = i / Dk, at = i % Dk;
    const float key = to_float(k[task.row(p.k_strides, s + token) + at]);
    tile.key[token][at] = key;
    tile.query[token][at] =
        p.scale * (to_float(q[task.row(p.q_strides, s + token) + at]) - d * key);
  }
  const int64_t column = int64_t{blockIdx.y} * kScanColumns + threadIdx.x;
  for (int token = 0; token < count; ++token) {
    tile.value[token][threadIdx.x] =
        column < p.value_dim ? to_float(rows[task.row(row_strides, s + token) + column]) : 0.f;
  }
  if (threadIdx.x < count) {
    const int64_t gate = gate_index(p, task, s + threadIdx.x);
    const float alpha = expf(p.log_alpha[gate]);
    tile.alpha[threadIdx.x] = alpha;
    tile.beta[threadIdx.x] = p.beta[gate];
    tile.feedback[threadIdx.x] = p.c[gate] * (p.decayed_feedback ? alpha : 1.f);
  }
}

template <int Dk>
__device__ float dot_column(const float (&column)[Dk], const float* row) {
  float sum[4] = {0.f, 0.f, 0.f, 0.f};
#pragma unroll
  for (int i = 0; i < Dk; i += 4) {
    const float4 x = *reinterpret_cast<const float4*>(row + i);
    sum[0] += column[i] * x.x;
    sum[1] += column[i + 1] * x.y;
    sum[2] += column[i + 2] * x.z;
    sum[3] += column[i + 3] * x.w;
  }
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// column = decay * column + value * row
template <int Dk>
__device__ void update_column(float (&column)[Dk], float decay, float value, const float* row) {
#pragma unroll
  for (int i = 0; i < Dk; i += 4) {
    const float4 x = *reinterpret_cast<const float4*>(row + i);
    column[i] = decay * column[i] + value * x.x;
    column[i + 1] = decay * column[i + 1] + value * x.y;
    column[i + 2] = decay * column[i + 2] + value * x.z;
    column[i + 3] = decay * column[i + 3] + value * x.w;
  }
}

// Column `column` of matrix `index` in [.., Dk, Dv].
template <int Dk>
__device__ void load_column(float (&column)[Dk], const float* matrices, int64_t index, int64_t at,
                            int64_t value_dim) {
#pragma unroll
  for (int i = 0; i < Dk; ++i) {
    column[i] =
        matrices != nullptr && at < value_dim ? matrices[(index * Dk + i) * value_dim + at] : 0.f;
  }
}

template <int Dk>
__device__ void store_column(const float (&column)[Dk], float* matrices, int64_t index, int64_t at,
                             int64_t value_dim) {
  if (matrices != nullptr && at < value_dim) {
#pragma unroll
    for (int i = 0; i < Dk; ++i) {
      matrices[(index * Dk + i) * value_dim + at] = column[i];
    }
  }
}

template <int Dk, typename T>
__global__ void __launch_bounds__(kScanColumns)
    scan_forward_kernel(const ScanParams<float> p, const ScanOutputs<float> out,
                        const ScanScratch scratch) {
  __shared__ WalkTile<Dk> tile;
  const int64_t local = blockIdx.x, n = scratch.first + local;
  const ScanTask task(p, n);
  const int64_t at = int64_t{blockIdx.y} * kScanColumns + threadIdx.x;
  const bool active = at < p.value_dim;
  float state[Dk];
  load_column(state, p.initial_state, n, at, p.value_dim);
  for (int64_t start = 0; start < p.length; start += kWalkTile) {
    const int count = static_cast<int>(min(int64_t{kWalkTile}, p.length - start));
    __syncthreads();
    load_tile<Dk, T>(tile, p, task, start, count, static_cast<const T*>(p.v), p.v_strides);
    __syncthreads();
    if (start % kScanChunk == 0) {
      store_column(state, scratch.state, local * scratch.chunks + start / kScanChunk, at,
                   p.value_dim);
    }
    for (int token = 0; token < count; ++token) {
      const float read = dot_column(state, tile.key[token]);
      const float update =
          tile.beta[token] * tile.value[token][threadIdx.x] - tile.feedback[token] * read;
      update_column(state, tile.alpha[token], update, tile.key[token]);
      const float o = dot_column(state, tile.query[token]);
      if (active && out.o != nullptr) {
        out.o[gate_index(p, task, start + token) * p.value_dim + at] = o;
      }
      if (active && scratch.update != nullptr) {
        scratch.update[(local * p.length + start + token) * p.value_dim + at] = update;
      }
    }
  }
  store_column(state, out.final_state, n, at, p.value_dim);
}

// Start of the last tile; negative without tokens.
__device__ inline int64_t last_tile(int64_t length) {
  return (length + kWalkTile - 1) / kWalkTile * kWalkTile - kWalkTile;
}

// Tiles are aligned as in the forward walk and visited from the last to the first.
template <int Dk, typename T>
__global__ void __launch_bounds__(kScanColumns)
    scan_reverse_kernel(const ScanParams<float> p, const ScanGradients<float> g,
                        const ScanScratch scratch) {
  __shared__ WalkTile<Dk> tile;
  const int64_t local = blockIdx.x, n = scratch.first + local;
  const ScanTask task(p, n);
  const int64_t at = int64_t{blockIdx.y} * kScanColumns + threadIdx.x;
  const bool active = at < p.value_dim;
  float grad_state[Dk];
  load_column(grad_state, g.grad_final_state, n, at, p.value_dim);
  for (int64_t start = last_tile(p.length); start >= 0; start -= kWalkTile) {
    const int count = static_cast<int>(min(int64_t{kWalkTile}, p.length - start));
    const int64_t chunk = start / kScanChunk;
    if (start + count == p.length || (start + count) % kScanChunk == 0) {
      store_column(grad_state, scratch.grad_state, local * scratch.chunks + chunk, at, p.value_dim);
    }
    __syncthreads();
    load_tile<Dk, T>(tile, p, task, start, count, g.grad_o, g.grad_o_strides);
    __syncthreads();
    for (int token = count - 1; token >= 0; --token) {
      update_column(grad_state, 1.f, tile.value[token][threadIdx.x], tile.query[token]);
      const float grad_update = dot_column(grad_state, tile.key[token]);
      update_column(grad_state, tile.alpha[token], -tile.feedback[token] * grad_update,
                    tile.key[token]);
      if (active) {
        scratch.grad_update[(local * p.length + start + token) * p.value_dim + at] = grad_update;
      }
    }
  }
  store_column(grad_state, g.grad_initial_state, n, at, p.value_dim);
}

}  // namespace comba::kernels::cuda
