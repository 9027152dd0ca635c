// The scan on tensor cores, for half-width inputs of one head dimension D.
//
// Chunks have C = 16 tokens. With g the inclusive sum of log alpha in a chunk, G its end, e = g - log alpha or (decayed
// feedback) g:
//   A_ij = c_i exp(e_i - g_j) <k_i, k_j>  (i > j)      M = (I + A)^-1        by forward substitution in fp32
//   P_ij = scale exp(g_i - g_j) <q_i - d k_i, k_j>  (i >= j)
//   R = diag(beta) V - diag(c exp(e)) K S,   V' = M R,   O = diag(scale exp(g)) (Q - d K) S + P V'
//   S <- exp(G) S + K^T diag(exp(G - g)) V'
// Triangles: a warp makes M and P of a chunk. The Gram tiles K K^T and Q K^T are made once and serve both directions, as
// an off-diagonal pair of tokens belongs to exactly one of them.
// Walk: S^T [Dv, Dk] lives in the accumulators of a direction's warps, 16 kMTiles rows each.
//
// A block serves both directions of (batch, head) over shared q, k, v that stay in shared memory, one after the other: four
// warps load rows and make triangles, ahead of the walks and into the next (batch, head) as soon as both walks are done
// with a chunk. A direction leaves the first output of the chunks it reaches first, and adds to the other's afterwards.
// Or a block serves one direction over rows of its own that stream through it, whatever their number; its warps take turns
// in making and walking.
//
// Shared memory: see tensor_shared_bytes; D = 64, T <= 208, both directions: 115,648 bytes, two blocks an SM on sm_90.
#pragma once

#include "kernels/cuda/tensor_convolution.cuh"
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

// `initial`: S^T [D, D] before the block's first chunk, or null for zero. kConvolve: q, k and v are raw, see ConvolvedRows.
template <bool kConvolve, typename T, int D, int kDirections>
__device__ void walk_outputs(const TensorBlock<T, D, kDirections>& b, const float* initial) {
  using Block = TensorBlock<T, D, kDirections>;
  using Rows = TensorRows<D, kDirections>;
  constexpr int kMTiles = Block::kMTiles;
  const Walk<T, D, kDirections> walk(b);
  const bool merged = Block::kResident && b.scan.merged;
  const int middle = walk.reversed ? b.chunks / 2 : (b.chunks + 1) / 2;
  const Meeting meeting{1 + walk.local, 32 * Block::kWalkers};
  const float d = b.correction(walk.local);
  WarpState<T, D, kMTiles> state;
  if (!Block::kResident && initial != nullptr) {
    state.visit_pairs(walk.first_row, b.lane, [&](int row, int column, float& x, float& y) {
      const float2 two = *reinterpret_cast<const float2*>(initial + row * D + column);
      x = two.x;
      y = two.y;
    });
  }
  OutputTile<T, D, kDirections> tile(walk);
  const auto step = [&](int n, int chunk, const ChunkPlace& place) {
    const int products = b.products_offset(place);
    const uint32_t rows = b.rows_address(place), triangles = b.base + products;
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
  if constexpr (kDirections == 2) {
    sweep_ready(b, walk.reversed, made_barriers(b), b.turn % 2, step);
  } else if constexpr (kConvolve) {
    sweep_groups(b, walk.reversed, ConvolvedRows<T, D>{b, walk.reversed, b.scan.convolution}, step);
  } else {
    sweep_groups(b, walk.reversed, StoredRows<T, D>{b, walk.reversed, {b.p.v, b.p.v_strides}},
                 step);
  }
}

template <typename T, int D, int kDirections>
__global__ void __launch_bounds__(TensorBlock<T, D, kDirections>::kThreads,
                                  TensorBlock<T, D, kDirections>::kMinBlocks)
    scan_tensor_kernel(const __grid_constant__ TensorScan<T> scan) {
  extern __shared__ __align__(128) char tensor_memory[];
  uint32_t n = blockIdx.x;
  if constexpr (kDirections == 2) {
    const auto count = static_cast<uint32_t>(scan.params.batch * scan.params.heads);
    using Block = TensorBlock<T, D, 2>;
    begin_block(Block(scan, tensor_memory, n));
    if (threadIdx.x < 32 * Block::kWalkers) {
      be_walker<D>();
      for (int turn = 0; n < count; n += gridDim.x, ++turn) {
        walk_outputs<false>(Block(scan, tensor_memory, n, turn), nullptr);
        // The next task's first output takes the place of this one's last.
        asm volatile("bar.sync 3, %0;" ::"r"(32 * Block::kWalkers) : "memory");
      }
    } else {
      be_maker<D>();
      for (int turn = 0; n < count; n += gridDim.x, ++turn) {
        const Block b(scan, tensor_memory, n, turn);
        make_chunks(b, {b.p.v, b.p.v_strides});
      }
    }
  } else {
    int segment = 0;
    const float* initial = nullptr;
    if (scan.segments > 1) {
      const auto tasks = static_cast<uint32_t>(scan.params.tasks());
      segment = static_cast<int>(n / tasks);
      n %= tasks;
      if (segment > 0) {
        initial = scan.states + (int64_t{n} * (scan.segments - 1) + segment - 1) * D * D;
      }
    }
    walk_outputs<false>(TensorBlock<T, D, 1>(scan, tensor_memory, n, segment), initial);
  }
}

// Of one direction of raw rows.
template <typename T, int D>
__global__ void __launch_bounds__(TensorBlock<T, D, 1>::kThreads, TensorBlock<T, D, 1>::kMinBlocks)
    scan_convolved_kernel(const __grid_constant__ TensorScan<T> scan) {
  extern __shared__ __align__(128) char tensor_memory[];
  walk_outputs<true>(TensorBlock<T, D, 1>(scan, tensor_memory, blockIdx.x), nullptr);
}

}  // namespace comba::kernels::cuda
