// The scan on tensor cores, for half-width inputs of one head dimension D.
//
// A block serves one (batch, head): both directions over shared q, k, v that stay in shared memory, or one direction
// over rows that stream through it, whatever their number. Chunks have
// C = 16 tokens. With g the inclusive sum of log alpha in a chunk, G its end, e = g - log alpha or (decayed feedback) g:
//   A_ij = c_i exp(e_i - g_j) <k_i, k_j>  (i > j)      M = (I + A)^-1        by forward substitution in fp32
//   P_ij = scale exp(g_i - g_j) <q_i - d k_i, k_j>  (i >= j)
//   R = diag(beta) V - diag(c exp(e)) K S,   V' = M R,   O = diag(scale exp(g)) (Q - d K) S + P V'
//   S <- exp(G) S + K^T diag(exp(G - g)) V'
// Phase 1: the warps share the chunks; the Gram tiles K K^T and Q K^T are made once and serve both directions, as an
// off-diagonal pair of tokens belongs to exactly one of them. M and P stay in shared memory.
// Phase 2: S^T [Dv, Dk] lives in the accumulators of a direction's warps, 16 kMTiles rows each; in a block
// of both, a direction leaves the first output of the chunks it reaches first, and adds to the other's afterwards.
//
// Shared memory: see TensorRows; D = 64, T <= 208, both directions: 113,360 bytes, two blocks an SM on sm_90.
#pragma once

#include "kernels/cuda/tensor_state.cuh"

namespace comba::kernels::cuda {

// Both directions of a block meet in the middle of the sequence: what one has left there, the other needs. It says so
// by `arrive` and the other waits by `sync`, a barrier each way.
struct Meeting {
  int barrier, threads;

  __device__ void arrive() const {
    __threadfence_block();
    asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
  }
  __device__ void sync() const {
    asm volatile("bar.sync %0, %1;" ::"r"(3 - barrier), "r"(threads) : "memory");
  }
};

template <typename T, int D, int kDirections>
__device__ void walk_outputs(const TensorBlock<T, D, kDirections>& b) {
  using Block = TensorBlock<T, D, kDirections>;
  using Rows = TensorRows<D, kDirections>;
  constexpr int kMTiles = Block::kMTiles;
  const Walk<T, D, kDirections> walk(b);
  const bool merged = Block::kResident && b.scan.merged;
  const int middle = walk.reversed ? b.chunks / 2 : (b.chunks + 1) / 2;
  const Meeting meeting{1 + walk.local, Block::kThreads};
  const float d = b.correction(walk.local);
  WarpState<T, D, kMTiles> state;
  OutputTile<T, D, kDirections> tile(walk);
  const auto step = [&](int n) {
    const int chunk = walk.chunk(n), products = b.products_offset(n, chunk);
    const uint32_t rows = b.rows_address(n, chunk), triangles = b.base + products;
    if (merged && n > middle) {
      tile.ask(chunk);
    }
    float read_state[kMTiles][2][4] = {}, o[kMTiles][2][4] = {};
    uint32_t tiles[D / 16];
    walk.addresses(tiles, rows, walk.row_tiles);
    state.multiply(read_state, o, tiles, Rows::kQuery);
    uint32_t m[4], p[4], written[kMTiles][4];
    load_matrices_transposed(m, triangles + walk.triangle_columns);
    load_matrices(p, triangles + walk.triangle_rows + TensorProducts<kDirections>::kP);
    Factors f[2][2];
    walk.load_factors(f, products);
#pragma unroll
    for (int mt = 0; mt < kMTiles; ++mt) {
      float update[2][4] = {};
      solve_update<T>(update, read_state[mt], walk, rows, mt, f, m);
      scaled_fragment<T>(written[mt], update, [&](int half, int x) { return f[half][x].write; });
      uint32_t plain[4];
      fragment<T>(plain, update);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float(&y)[4] = o[mt][half];
#pragma unroll
        for (int x = 0; x < 4; ++x) {
          y[x] = f[half][x & 1].query * (y[x] - d * read_state[mt][half][x]);
        }
        Half<T>::multiply(y, plain, p[2 * half], p[2 * half + 1]);
      }
    }
    state.scale(walk.decay(products));
    walk.addresses(tiles, rows, walk.column_tiles);
    state.add_product(written, tiles);
    if (merged && n < middle) {
      tile.leave(o, chunk);
      if (n + 1 == middle) {
        meeting.arrive();
      }
      return;
    }
    if (merged) {
      if (n == middle) {
        meeting.sync();
        tile.ask(chunk);
      }
      tile.add_left(o);
    }
    tile.store(o, chunk);
  };
  sweep<false>(b, false, {b.p.v, b.p.v_strides}, [&](int first, int end) {
    for (int n = first; n < end; ++n) {
      step(n);
    }
  });
}

template <typename T, int D, int kDirections>
__global__ void __launch_bounds__(TensorBlock<T, D, kDirections>::kThreads,
                                  TensorBlock<T, D, kDirections>::kMinBlocks)
    scan_tensor_kernel(const __grid_constant__ TensorScan<T> scan) {
  extern __shared__ __align__(128) char tensor_memory[];
  walk_outputs(TensorBlock<T, D, kDirections>(scan, tensor_memory, blockIdx.x));
}

}  // namespace comba::kernels::cuda
