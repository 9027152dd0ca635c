// The scan on tensor cores, for half-width inputs of one head dimension D whose sequence fits in shared memory.
//
// A block serves one (batch, head): both directions over shared q, k, v, or one direction over its own. Chunks have
// C = 16 tokens. With g the inclusive sum of log alpha in a chunk, G its end, e = g - log alpha or (decayed feedback) g:
//   A_ij = c_i exp(e_i - g_j) <k_i, k_j>  (i > j)      M = (I + A)^-1        by forward substitution in fp32
//   P_ij = scale exp(g_i - g_j) <q_i - d k_i, k_j>  (i >= j)
//   R = diag(beta) V - diag(c exp(e)) K S,   V' = M R,   O = diag(scale exp(g)) (Q - d K) S + P V'
//   S <- exp(G) S + K^T diag(exp(G - g)) V'
// Phase 1: the warps share the chunks; the Gram tiles K K^T and Q K^T are made once and serve both directions, as an
// off-diagonal pair of tokens belongs to exactly one of them. M and P stay in shared memory.
// Phase 2: S^T [Dv, Dk] lives in the accumulators of a direction's warps, 16 kMTiles rows each. No product needs another
// warp's rows, so the warps never wait, but for one barrier in the middle: a direction stores the first output of the
// chunks it reaches first, and adds to the stored ones afterwards.
//
// Shared memory: see TensorLayout; D = 64, T <= 208, both directions: 113,256 bytes, two
// blocks an SM on sm_90.
#pragma once

#include "kernels/cuda/tensor_block.cuh"

namespace comba::kernels::cuda {

// Stores O^T of a warp for one chunk: o[mt][n] holds rows 16 mt + quad (+ 8) of the warp's share of Dv and tokens
// 8 n + 2 pair (+ 1). With `add` the stored rows are added to.
template <typename T, int D, int kDirections>
__device__ void store_output(const TensorBlock<T, D, kDirections>& b, int chunk, bool reversed,
                             int direction, int first_row,
                             const float (&o)[TensorBlock<T, D, kDirections>::kMTiles][2][4],
                             bool add) {
  constexpr int kMTiles = TensorBlock<T, D, kDirections>::kMTiles;
  const int quad = b.lane >> 2, pair = b.lane & 3;
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    const int s = 8 * n + quad;
    const int64_t t = int64_t{chunk} * kTensorChunk + (reversed ? 15 - s : s);
    T* row = b.scan.o +
             (((direction * b.p.batch + b.batch) * b.p.length + t) * b.p.heads + b.head) * D +
             first_row;
#pragma unroll
    for (int mt = 0; mt < kMTiles; ++mt) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint32_t two = transposed(Half<T>::pack(o[mt][n][2 * half], o[mt][n][2 * half + 1]));
        if (t < b.p.length) {
          uint32_t* target = reinterpret_cast<uint32_t*>(row + 16 * mt + 8 * half + 2 * pair);
          if (add) {
            const float2 x = Half<T>::unpack(two), y = Half<T>::unpack(*target);
            *target = Half<T>::pack(x.x + y.x, x.y + y.y);
          } else {
            *target = two;
          }
        }
      }
    }
  }
}

// Phase 2 for one warp: the walk over the chunks with its rows of S^T.
template <typename T, int D, int kDirections>
__device__ void walk_chunks(const TensorBlock<T, D, kDirections>& b) {
  using Block = TensorBlock<T, D, kDirections>;
  constexpr int kMTiles = Block::kMTiles;
  const int lane = b.lane, pair = lane & 3, chunks = b.layout.chunks;
  const int local = b.warp / Block::kDirectionWarps;
  const int first_row = b.warp % Block::kDirectionWarps * 16 * kMTiles;
  const bool reversed = b.reversed(local), merged = b.scan.merged;
  const int direction = merged ? 0 : b.first_direction + local;
  const int middle = reversed ? chunks / 2 : (chunks + 1) / 2;
  const float d = b.correction(local);
  const float *read = b.gate(local, 0), *beta = b.gate(local, 1), *query = b.gate(local, 2),
              *write = b.gate(local, 3);

  float state[kMTiles][D / 8][4] = {};
  for (int n = 0; n <= chunks; ++n) {
    if (merged && n == middle) {
      __syncthreads();  // every warp comes here once: now each chunk has its first output
    }
    if (n == chunks) {
      break;
    }
    const int chunk = reversed ? chunks - 1 - n : n;
    const int token = lane & 15, row = chunk * 16 + (reversed ? 15 - token : token);

    float sk[kMTiles][2][4] = {}, sq[kMTiles][2][4] = {};
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      uint32_t k[4], q[4];
      const uint32_t at = b.base + row_piece<D>(row, 2 * step + (lane >> 4));
      load_matrices(k, at);
      load_matrices(q, at + b.layout.q);
#pragma unroll
      for (int mt = 0; mt < kMTiles; ++mt) {
        const float(&low)[4] = state[mt][2 * step], (&high)[4] = state[mt][2 * step + 1];
        const uint32_t s[4] = {Half<T>::pack(low[0], low[1]), Half<T>::pack(low[2], low[3]),
                               Half<T>::pack(high[0], high[1]), Half<T>::pack(high[2], high[3])};
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          Half<T>::multiply(sk[mt][half], s, k[half], k[half + 2]);
          Half<T>::multiply(sq[mt][half], s, q[half], q[half + 2]);
        }
      }
    }

    uint32_t m[4], p[4];
    const uint32_t triangle = b.base + b.triangle(chunk, local) + triangle_piece(token, lane >> 4);
    load_matrices(m, triangle);
    load_matrices(p, triangle + 512);
    uint32_t written[kMTiles][4];
#pragma unroll
    for (int mt = 0; mt < kMTiles; ++mt) {
      uint32_t v[4], residual[4], update[4];
      const int v_row = chunk * 16 + (reversed ? 15 - ((lane & 7) + (lane >> 4) * 8)
                                               : (lane & 7) + (lane >> 4) * 8);
      load_matrices_transposed(
          v, b.base + b.layout.v + row_piece<D>(v_row, first_row / 8 + 2 * mt + (lane >> 3 & 1)));
      float delta[2][4] = {};
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int at = n * 16 + 8 * half + 2 * pair;
        const float2 b2 = *reinterpret_cast<const float2*>(beta + at),
                     r2 = *reinterpret_cast<const float2*>(read + at);
        const float2 low = Half<T>::unpack(v[2 * half]), high = Half<T>::unpack(v[2 * half + 1]);
        const float(&s)[4] = sk[mt][half];
        residual[2 * half] = Half<T>::pack(b2.x * low.x - r2.x * s[0], b2.y * low.y - r2.y * s[1]);
        residual[2 * half + 1] =
            Half<T>::pack(b2.x * high.x - r2.x * s[2], b2.y * high.y - r2.y * s[3]);
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        Half<T>::multiply(delta[half], residual, m[half], m[half + 2]);
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int at = n * 16 + 8 * half + 2 * pair;
        const float2 q2 = *reinterpret_cast<const float2*>(query + at),
                     w2 = *reinterpret_cast<const float2*>(write + at);
        float(&o)[4] = sq[mt][half];
        const float(&s)[4] = sk[mt][half], (&x)[4] = delta[half];
        o[0] = q2.x * (o[0] - d * s[0]);
        o[1] = q2.y * (o[1] - d * s[1]);
        o[2] = q2.x * (o[2] - d * s[2]);
        o[3] = q2.y * (o[3] - d * s[3]);
        update[2 * half] = Half<T>::pack(x[0], x[1]);
        update[2 * half + 1] = Half<T>::pack(x[2], x[3]);
        written[mt][2 * half] = Half<T>::pack(w2.x * x[0], w2.y * x[1]);
        written[mt][2 * half + 1] = Half<T>::pack(w2.x * x[2], w2.y * x[3]);
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        Half<T>::multiply(sq[mt][half], update, p[half], p[half + 2]);
      }
    }

    const float decay = b.decay(local)[n];
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      uint32_t k[4];
      load_matrices_transposed(k, b.base + row_piece<D>(row, 2 * step + (lane >> 4)));
#pragma unroll
      for (int mt = 0; mt < kMTiles; ++mt) {
#pragma unroll
        for (int x = 0; x < 4; ++x) {
          state[mt][2 * step][x] *= decay;
          state[mt][2 * step + 1][x] *= decay;
        }
        Half<T>::multiply(state[mt][2 * step], written[mt], k[0], k[1]);
        Half<T>::multiply(state[mt][2 * step + 1], written[mt], k[2], k[3]);
      }
    }
    store_output<T, D, kDirections>(b, chunk, reversed, direction, first_row, sq,
                                    merged && n >= middle);
  }
}

template <typename T, int D, int kDirections>
__global__ void __launch_bounds__(TensorBlock<T, D, kDirections>::kThreads)
    scan_tensor_kernel(const __grid_constant__ TensorScan<T> scan) {
  extern __shared__ __align__(128) char tensor_memory[];
  const TensorBlock<T, D, kDirections> b(scan, tensor_memory, blockIdx.x);
  b.load_rows(0, b.p.k, b.p.k_strides);
  b.load_rows(b.layout.q, b.p.q, b.p.q_strides);
  asm volatile("cp.async.commit_group;");
  b.load_rows(b.layout.v, b.p.v, b.p.v_strides);
  asm volatile("cp.async.commit_group;");
  asm volatile("cp.async.wait_group 1;");
  __syncthreads();
  for (int chunk = b.warp; chunk < b.layout.chunks; chunk += b.kWarps) {
    make_triangles(b, chunk);
  }
  asm volatile("cp.async.wait_group 0;");
  __syncthreads();
  walk_chunks(b);
}

}  // namespace comba::kernels::cuda
