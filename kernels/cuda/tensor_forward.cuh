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
// Walk: S^T [Dv, Dk] lives in the accumulators of a direction's warps, 16 kMTiles rows each; with kWide the four warps of
// a direction multiply as a warpgroup.
//
// A block serves both directions of (batch, head) over shared q, k, v that stay in shared memory, one after the other: some
// warps walk, others make triangles and one thread copies rows, both ahead of the walks and into the next (batch, head).
// A direction leaves the first output of the chunks it reaches first, and adds to the other's afterwards.
// Or a block serves one direction over rows of its own that stream through it, whatever their number; its warps take turns
// in making and walking.
//
// Shared memory: see resident_shared_bytes and tensor_shared_bytes; D = 64, both directions: 8,720 bytes a chunk.
#pragma once

#include "kernels/cuda/tensor_state.cuh"

namespace comba::kernels::cuda {

// Both directions of a block meet in the middle of the sequence: what one has left there, the other needs. It says so
// by `arrive` and the other waits by `sync`, a barrier each way.
struct Meeting {
  int own, other, threads;

  __device__ void arrive() const {
    __threadfence_block();
    asm volatile("bar.arrive %0, %1;" ::"r"(own), "r"(threads) : "memory");
  }
  __device__ void sync() const {
    asm volatile("bar.sync %0, %1;" ::"r"(other), "r"(threads) : "memory");
  }
};

// One step of a walk: S^T after a chunk from S^T before it, and the chunk's output O^T, added to o.
template <typename T, int D, int kDirections>
__device__ void walk_chunk(const Walk<T, D, kDirections>& walk, WarpState<T, D, kDirections>& state,
                           float d, const ChunkPlace& place,
                           float (&o)[WarpState<T, D, kDirections>::kMTiles][2][4]) {
  constexpr int kMTiles = WarpState<T, D, kDirections>::kMTiles;
  constexpr bool kWide = WarpState<T, D, kDirections>::kWide;
  const auto& b = walk.b;
  const int products = b.products_offset(place);
  const uint32_t rows = b.rows_address(place), triangles = b.base + products;
  uint32_t m[4], p[4], v[kMTiles][4], written[kMTiles][4];
  Factors f[2][2];
  float decay;
  const auto load = [&] {
    decay = walk.decay(products);
    load_matrices_transposed(m, triangles + walk.triangle_columns);
    load_matrices(p, triangles + walk.triangle_rows + TensorProducts<kDirections>::kP);
    walk.load_factors(f, products);
  };
  // Before products that run by themselves; others leave no registers for it.
  if constexpr (kWide) {
    load();
    walk.load_values(v[0], rows, 0);
  }
  float read_state[kMTiles][2][4] = {};
  state.begin_read(read_state, o, rows, walk.row_tiles);
  if constexpr (!kWide) {
    load();
  }
  state.scale(decay);
  state.finish(read_state, o);
  // From what has been read of S, in its place, the output.
  const auto add_update = [&](int mt, const float(&update)[2][4]) {
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
  };
  float update[kMTiles][2][4] = {};
#pragma unroll
  for (int mt = 0; mt < kMTiles; ++mt) {
    if constexpr (!kWide) {
      walk.load_values(v[mt], rows, mt);
    }
    solve_update<T, Walk<T, D, kDirections>>(update[mt], read_state[mt], v[mt], f, m);
    scaled_fragment<T>(written[mt], update[mt], [&](int half, int x) { return f[half][x].write; });
    if constexpr (!kWide) {
      add_update(mt, update[mt]);
    }
  }
  state.begin_add(written, rows, walk.column_tiles);
  if constexpr (kWide) {
    add_update(0, update[0]);
  }
  state.finish_add();
}

// `initial`: S^T [D, D] before the block's first chunk, or null for zero; kCut: of a segment.
template <bool kCut = false, typename T, int D, int kDirections>
__device__ void walk_outputs(const TensorBlock<T, D, kDirections>& b, const float* initial) {
  using Block = TensorBlock<T, D, kDirections>;
  const Walk<T, D, kDirections> walk(b);
  const float d = b.correction(walk.local);
  WarpState<T, D, kDirections> state;
  if constexpr (kCut) {
    state.read(initial, walk.first_row, b.lane);
  }
  OutputTile<T, D, kDirections> tile(walk, walk.reversed ? b.high - 1 : b.low, b.spare());
  // `finish(o)`: what becomes of a chunk's output.
  const auto step = [&](const ChunkPlace& place, const auto& finish) {
    float o[Block::kMTiles][2][4] = {};
    walk_chunk(walk, state, d, place, o);
    finish(o);
    tile.move_on(walk.reversed);
  };
  const auto store = [&](const auto& o) { tile.store(o); };
  if constexpr (kDirections == 2) {
    ReadySweep sweep(b, walk.reversed, made_barriers(b, b.turn), phase_of(b.turn));
    if (!b.scan.merged) {
      sweep.run(b.chunks, [&](int, const ChunkPlace& place) { step(place, store); });
      return;
    }
    // Barriers of every other task, as a direction may come to its next meeting before all warps have left this one.
    const int barriers = 1 + 2 * (b.turn % 2);
    const Meeting meeting{barriers + walk.local, barriers + 1 - walk.local, 32 * Block::kWalkers};
    sweep.run(sweep.middle, [&](int, const ChunkPlace& place) {
      step(place, [&](const auto& o) { tile.leave(o); });
    });
    meeting.arrive();
    meeting.sync();
    tile.ask();
    sweep.run(b.chunks, [&](int, const ChunkPlace& place) {
      step(place, [&](auto& o) {
        tile.add_left(o);
        tile.store(o);
      });
      if (sweep.done + 1 < b.chunks) {
        tile.ask();
      }
    });
  } else {
    sweep_groups<kCut ? Triangles::kTake : Triangles::kMake>(
        b, walk.reversed, StoredRows<T, D>{b, walk.reversed, {b.p.v, b.p.v_strides}},
        [&](int, const ChunkPlace& place) { step(place, store); });
  }
}

// kCut: blocks of one direction of a segment.
template <typename T, int D, int kDirections, bool kCut = false>
__global__ void __launch_bounds__(TensorBlock<T, D, kDirections>::kThreads,
                                  TensorBlock<T, D, kDirections>::kMinBlocks)
    scan_tensor_kernel(const __grid_constant__ TensorScan<T> scan,
                       const __grid_constant__ RowMaps maps) {
  extern __shared__ __align__(1024) char tensor_memory[];
  uint32_t n = blockIdx.x;
  if constexpr (kDirections == 2) {
    const auto count = static_cast<uint32_t>(scan.params.batch * scan.params.heads);
    using Block = TensorBlock<T, D, 2>;
    const Block first(scan, tensor_memory, n);
    begin_block(first, scan.mapped ? 1 : 32);
    const auto each = [&](const auto& task) {
      for (int turn = 0; n < count; n += gridDim.x, ++turn) {
        task(Block(scan, tensor_memory, n, turn));
      }
    };
    if (first.warp < Block::kWalkers) {
      be_walker<D>();
      each([](const Block& b) { walk_outputs(b, nullptr); });
      return;
    }
    be_maker<D>();
    if (!scan.mapped) {
      if (first.warp < Block::kWalkers + Block::kMakers) {
        each([](const Block& b) { make_chunks<false>(b); });
      }
      return;
    }
#if __CUDA_ARCH__ >= 900
    if (first.warp < Block::kWalkers + Block::kMakers) {
      each([](const Block& b) { make_chunks<true>(b); });
    } else if (first.lane == 0) {
      each([&](const Block& b) { copy_chunks(b, maps); });
    }
#endif
  } else {
    int segment = 0;
    const float* initial = nullptr;
    if constexpr (kCut) {
      const auto tasks = static_cast<uint32_t>(scan.params.tasks());
      segment = static_cast<int>(n / tasks);
      n %= tasks;
      initial = segment_matrix<D>(scan, scan.states, n, segment - 1);
    }
    walk_outputs<kCut>(TensorBlock<T, D, 1>(scan, tensor_memory, n, segment), initial);
  }
}

}  // namespace comba::kernels::cuda
