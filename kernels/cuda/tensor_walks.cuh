// The serial half of the backward scan on tensor cores: S forward through the chunks, then dS back.
//
// With the notation of tensor_forward.cuh, dO the gradient of the output and dS of the state after a chunk:
//   dV' = P^T dO + diag(exp(G - g)) K dS,   dR = M^T dV'
//   dS  <- exp(G) dS + (diag(scale exp(g)) (Q - d K))^T dO - (diag(c exp(e)) K)^T dR
// Leaves S before, dS after, V' and dR of every chunk for tensor_gradients.cuh, as the operand fragments that it needs.
#pragma once

#include "kernels/cuda/tensor_block.cuh"

namespace comba::kernels::cuda {

// Fragments of 16 bytes a lane. Slots: blocks in order, their directions innermost.
struct TensorScratch {
  uint4* state =
      nullptr;  // [slot][chunk][D / 16 of Dv][D / 16 of Dk][lane]: operands b (k = Dv, columns = Dk)
  uint4* grad_state = nullptr;  // the same of dS
  uint4* update =
      nullptr;  // [slot][chunk][D / 16 of Dv][lane]: operand a of V' (rows = tokens, k = Dv)
  uint4* grad_update = nullptr;  // the same of dR
};

template <typename T>
struct TensorBackward {
  TensorScan<T> scan;  // o is not used
  const T* grad_o = nullptr;
  RowStrides grad_o_strides;
  TensorScratch scratch;
  // outputs
  T *grad_q = nullptr, *grad_k = nullptr,
    *grad_v = nullptr;  // [B, T, H, D] (merged) or [R, B, T, H, D]
  float *grad_log_alpha = nullptr, *grad_beta = nullptr, *grad_c = nullptr;  // [R, B, T, H]
  float* grad_d = nullptr;                                                   // [R, B, H, chunks]
};

// One warp's rows of S^T or dS^T, and where its fragments go.
template <typename T, int D, int kMTiles>
struct WarpState {
  float value[kMTiles][D / 8][4] = {};

  // sum += value rows^T for the 16 rows at `rows` in shared memory (this lane's row of them: `row`).
  __device__ void multiply(float (&sum)[kMTiles][2][4], uint32_t rows, int row, int lane) const {
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      uint32_t b[4];
      load_matrices(b, rows + row_piece<D>(row, 2 * step + (lane >> 4)));
#pragma unroll
      for (int mt = 0; mt < kMTiles; ++mt) {
        const float(&low)[4] = value[mt][2 * step], (&high)[4] = value[mt][2 * step + 1];
        const uint32_t a[4] = {Half<T>::pack(low[0], low[1]), Half<T>::pack(low[2], low[3]),
                               Half<T>::pack(high[0], high[1]), Half<T>::pack(high[2], high[3])};
        Half<T>::multiply(sum[mt][0], a, b[0], b[2]);
        Half<T>::multiply(sum[mt][1], a, b[1], b[3]);
      }
    }
  }
  // value += a rows
  __device__ void add_product(const uint32_t (&a)[kMTiles][4], uint32_t rows, int row, int lane) {
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      uint32_t b[4];
      load_matrices_transposed(b, rows + row_piece<D>(row, 2 * step + (lane >> 4)));
#pragma unroll
      for (int mt = 0; mt < kMTiles; ++mt) {
        Half<T>::multiply(value[mt][2 * step], a[mt], b[0], b[1]);
        Half<T>::multiply(value[mt][2 * step + 1], a[mt], b[2], b[3]);
      }
    }
  }
  __device__ void scale(float factor) {
#pragma unroll
    for (int mt = 0; mt < kMTiles; ++mt) {
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
#pragma unroll
        for (int x = 0; x < 4; ++x) {
          value[mt][n][x] *= factor;
        }
      }
    }
  }
  // `target`: the chunk's fragments; `first_tile`: this warp's first tile of 16 rows.
  __device__ void store(uint4* target, int first_tile, int lane) const {
#pragma unroll
    for (int mt = 0; mt < kMTiles; ++mt) {
#pragma unroll
      for (int n = 0; n < D / 16; ++n) {
        const float(&low)[4] = value[mt][2 * n], (&high)[4] = value[mt][2 * n + 1];
        target[((first_tile + mt) * (D / 16) + n) * 32 + lane] = make_uint4(
            transposed(Half<T>::pack(low[0], low[1])), transposed(Half<T>::pack(low[2], low[3])),
            transposed(Half<T>::pack(high[0], high[1])),
            transposed(Half<T>::pack(high[2], high[3])));
      }
    }
  }
};

// [Dv rows, 16 tokens] as the operand a of its transpose.
template <typename T>
__device__ uint4 transposed_fragment(const float (&x)[2][4]) {
  return make_uint4(
      transposed(Half<T>::pack(x[0][0], x[0][1])), transposed(Half<T>::pack(x[1][0], x[1][1])),
      transposed(Half<T>::pack(x[0][2], x[0][3])), transposed(Half<T>::pack(x[1][2], x[1][3])));
}
// [Dv rows, 16 tokens] with columns times `factor`, as an operand a.
template <typename T>
__device__ void scaled_fragment(uint32_t (&a)[4], const float (&x)[2][4],
                                const float2 (&factor)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    a[2 * half] = Half<T>::pack(factor[half].x * x[half][0], factor[half].y * x[half][1]);
    a[2 * half + 1] = Half<T>::pack(factor[half].x * x[half][2], factor[half].y * x[half][3]);
  }
}

// What both walks know of themselves.
template <typename T, int D, int kDirections>
struct Walk {
  using Block = TensorBlock<T, D, kDirections>;
  const Block& b;
  int local, first_row;
  bool reversed;
  int64_t slot;

  __device__ explicit Walk(const Block& block)
      : b(block),
        local(block.warp / Block::kDirectionWarps),
        first_row(block.warp % Block::kDirectionWarps * 16 * Block::kMTiles),
        reversed(block.reversed(local)),
        slot(int64_t{blockIdx.x} * kDirections + local) {}

  __device__ int chunk(int n) const { return reversed ? b.layout.chunks - 1 - n : n; }
  // Row of token s (scan order) of chunk n.
  __device__ int row(int n, int s) const { return chunk(n) * 16 + (reversed ? 15 - s : s); }
  // Rows as accumulators of the transpose: tokens in matrices 0, 1 and 2, 3, Dv in 0, 2 and 1, 3.
  __device__ void load_transposed(float (&x)[2][4], int offset, int n, int mt) const {
    uint32_t v[4];
    load_matrices_transposed(v, b.base + offset +
                                    row_piece<D>(row(n, (b.lane & 7) + (b.lane >> 4) * 8),
                                                 first_row / 8 + 2 * mt + (b.lane >> 3 & 1)));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float2 low = Half<T>::unpack(v[2 * half]), high = Half<T>::unpack(v[2 * half + 1]);
      x[half][0] = low.x;
      x[half][1] = low.y;
      x[half][2] = high.x;
      x[half][3] = high.y;
    }
  }
  // This lane's four tokens' factors of chunk n.
  __device__ void load_factor(float2 (&factor)[2], int kind, int n) const {
    const float* values = b.gate(local, kind) + n * 16 + 2 * (b.lane & 3);
    factor[0] = *reinterpret_cast<const float2*>(values);
    factor[1] = *reinterpret_cast<const float2*>(values + 8);
  }
  __device__ uint4* state_at(uint4* fragments, int n) const {
    return fragments + (slot * b.layout.chunks + n) * (D / 16) * (D / 16) * 32;
  }
  __device__ uint4* update_at(uint4* fragments, int n, int mt) const {
    return fragments + ((slot * b.layout.chunks + n) * (D / 16) + first_row / 16 + mt) * 32 +
           b.lane;
  }
};

template <typename T, int D, int kDirections>
__device__ void walk_states(const TensorBlock<T, D, kDirections>& b, const TensorScratch& scratch) {
  constexpr int kMTiles = TensorBlock<T, D, kDirections>::kMTiles;
  const Walk<T, D, kDirections> walk(b);
  WarpState<T, D, kMTiles> state;
  for (int n = 0; n < b.layout.chunks; ++n) {
    state.store(walk.state_at(scratch.state, n), walk.first_row / 16, b.lane);
    const int token = b.lane & 15, row = walk.row(n, token);
    float read[kMTiles][2][4] = {};
    state.multiply(read, b.base, row, b.lane);
    uint32_t m[4], written[kMTiles][4];
    load_matrices(
        m, b.base + b.triangle(walk.chunk(n), walk.local) + triangle_piece(token, b.lane >> 4));
    float2 c[2], beta[2], write[2];
    walk.load_factor(c, 0, n);
    walk.load_factor(beta, 1, n);
    walk.load_factor(write, 3, n);
#pragma unroll
    for (int mt = 0; mt < kMTiles; ++mt) {
      float v[2][4], update[2][4] = {};
      walk.load_transposed(v, b.layout.v, n, mt);
      uint32_t residual[4];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float(&s)[4] = read[mt][half];
        residual[2 * half] = Half<T>::pack(beta[half].x * v[half][0] - c[half].x * s[0],
                                           beta[half].y * v[half][1] - c[half].y * s[1]);
        residual[2 * half + 1] = Half<T>::pack(beta[half].x * v[half][2] - c[half].x * s[2],
                                               beta[half].y * v[half][3] - c[half].y * s[3]);
      }
      Half<T>::multiply(update[0], residual, m[0], m[2]);
      Half<T>::multiply(update[1], residual, m[1], m[3]);
      *walk.update_at(scratch.update, n, mt) = transposed_fragment<T>(update);
      scaled_fragment<T>(written[mt], update, write);
    }
    state.scale(b.decay(walk.local)[n]);
    state.add_product(written, b.base, row, b.lane);
  }
}

template <typename T, int D, int kDirections>
__device__ void walk_gradients(const TensorBlock<T, D, kDirections>& b,
                               const TensorScratch& scratch) {
  constexpr int kMTiles = TensorBlock<T, D, kDirections>::kMTiles;
  const Walk<T, D, kDirections> walk(b);
  const float d = b.correction(walk.local);
  WarpState<T, D, kMTiles> grad_state;
  for (int n = b.layout.chunks - 1; n >= 0; --n) {
    grad_state.store(walk.state_at(scratch.grad_state, n), walk.first_row / 16, b.lane);
    const int token = b.lane & 15, row = walk.row(n, token);
    float sum[kMTiles][2][4] = {};
    grad_state.multiply(sum, b.base, row, b.lane);
    uint32_t m[4], p[4], from_q[kMTiles][4], from_k[kMTiles][4];
    const uint32_t triangle =
        b.base + b.triangle(walk.chunk(n), walk.local) + triangle_piece(token, b.lane >> 4);
    load_matrices_transposed(m, triangle);
    load_matrices_transposed(p, triangle + 512);
    float2 c[2], query[2], write[2];
    walk.load_factor(c, 0, n);
    walk.load_factor(query, 2, n);
    walk.load_factor(write, 3, n);
#pragma unroll
    for (int mt = 0; mt < kMTiles; ++mt) {
      float grad_o[2][4], grad_r[2][4] = {};
      walk.load_transposed(grad_o, b.layout.v, n, mt);
      uint32_t o[4], update[4];
      const float2 one[2] = {{1.f, 1.f}, {1.f, 1.f}};
      scaled_fragment<T>(o, grad_o, one);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float(&x)[4] = sum[mt][half];
        x[0] *= write[half].x;
        x[1] *= write[half].y;
        x[2] *= write[half].x;
        x[3] *= write[half].y;
      }
      Half<T>::multiply(sum[mt][0], o, p[0], p[1]);
      Half<T>::multiply(sum[mt][1], o, p[2], p[3]);
      scaled_fragment<T>(update, sum[mt], one);
      Half<T>::multiply(grad_r[0], update, m[0], m[1]);
      Half<T>::multiply(grad_r[1], update, m[2], m[3]);
      *walk.update_at(scratch.grad_update, n, mt) = transposed_fragment<T>(grad_r);
      scaled_fragment<T>(from_q[mt], grad_o, query);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float2 q = query[half], r = c[half];
        const float(&x)[4] = grad_o[half], (&y)[4] = grad_r[half];
        from_k[mt][2 * half] =
            Half<T>::pack(-d * q.x * x[0] - r.x * y[0], -d * q.y * x[1] - r.y * y[1]);
        from_k[mt][2 * half + 1] =
            Half<T>::pack(-d * q.x * x[2] - r.x * y[2], -d * q.y * x[3] - r.y * y[3]);
      }
    }
    grad_state.scale(b.decay(walk.local)[n]);
    grad_state.add_product(from_q, b.base + b.layout.q, row, b.lane);
    grad_state.add_product(from_k, b.base, row, b.lane);
  }
}

template <typename T, int D, int kDirections>
__global__ void __launch_bounds__(TensorBlock<T, D, kDirections>::kThreads)
    scan_tensor_walks_kernel(const __grid_constant__ TensorBackward<T> backward) {
  extern __shared__ __align__(128) char tensor_memory[];
  const TensorBlock<T, D, kDirections> b(backward.scan, tensor_memory, blockIdx.x);
  b.load_rows(0, b.p.k, b.p.k_strides);
  b.load_rows(b.layout.q, b.p.q, b.p.q_strides);
  b.load_rows(b.layout.v, b.p.v, b.p.v_strides);
  asm volatile("cp.async.commit_group;");
  asm volatile("cp.async.wait_group 0;");
  __syncthreads();
  for (int chunk = b.warp; chunk < b.layout.chunks; chunk += b.kWarps) {
    make_triangles(b, chunk);
  }
  __syncthreads();
  walk_states(b, backward.scratch);
  __syncthreads();
  b.load_rows(b.layout.v, backward.grad_o, backward.grad_o_strides);  // v has been used
  asm volatile("cp.async.commit_group;");
  asm volatile("cp.async.wait_group 0;");
  __syncthreads();
  walk_gradients(b, backward.scratch);
}

}  // namespace comba::kernels::cuda
