// The serial half of the backward scan on tensor cores: S forward through the chunks, then dS back.
//
// With the notation of tensor_forward.cuh, dO the gradient of the output and dS of the state after a chunk:
//   dV' = P^T dO + diag(exp(G - g)) K dS,   dR = M^T dV'
//   dS  <- exp(G) dS + (diag(scale exp(g)) (Q - d K))^T dO - (diag(c exp(e)) K)^T dR
// Leaves S before and dS after every span of two chunks, V' and dR of every chunk for tensor_gradients.cuh, as the
// operand fragments that it needs.
#pragma once

#include "kernels/cuda/tensor_state.cuh"

namespace comba::kernels::cuda {

// What a span of a direction leaves, as operand fragments of 16 bytes a lane.
template <int D>
struct SpanStates {
  static constexpr int kTiles = D / 16;
  uint4 state[kTiles][kTiles][32];  // before it; of Dv, of Dk: operands b (k = Dv, columns = Dk)
  uint4 grad_state[kTiles][kTiles][32];  // after it; the same of dS
};
template <int D>
struct ChunkUpdates {
  uint4 update[D / 16][32];       // of Dv: operand a of V' (rows = tokens, k = Dv)
  uint4 grad_update[D / 16][32];  // the same of dR
};
template <int D>
struct SpanScratch {
  SpanStates<D> states;
  ChunkUpdates<D> updates[2];  // of its chunks in time order
};

template <typename T>
struct TensorBackward {
  TensorScan<T> scan;  // o is not used
  const T* grad_o = nullptr;
  RowStrides grad_o_strides;
  void* scratch = nullptr;  // SpanScratch [block or, with rows of its own, task][direction][span]
  // [tasks, segments - 1, D, D] dS^T before each segment but the first, that before the last one first
  const float* grad_states = nullptr;
  // outputs
  T *grad_q = nullptr, *grad_k = nullptr,
    *grad_v = nullptr;  // [B, T, H, D] (merged) or [R, B, T, H, D]
  float *grad_log_alpha = nullptr, *grad_beta = nullptr, *grad_c = nullptr;  // [R, B, T, H]
  float* grad_d = nullptr;                                                   // [R, B, H, spans]
};

template <int D, int kDirections>
__device__ SpanScratch<D>& scratch_of(void* scratch, int64_t block, int local, int chunks,
                                      int span) {
  return static_cast<SpanScratch<D>*>(
      scratch)[(block * kDirections + local) * ((chunks + 1) / 2) + span];
}
// A block's place in the scratch, and where its walks begin (see WarpState::read).
struct WalkStart {
  int64_t block;
  const float *state, *grad_state;
};
// Whether a walk that goes up or down comes into a span with this chunk.
__device__ inline bool enters_span(int chunk, int chunks, bool down) {
  return down ? chunk % 2 == 1 || chunk == chunks - 1 : chunk % 2 == 0;
}

template <bool kCut = false, typename T, int D, int kDirections>
__device__ void walk_states(const TensorBlock<T, D, kDirections>& b, void* scratch,
                            const WalkStart& start) {
  const Walk<T, D, kDirections> walk(b);
  const int tile = walk.first_row / 16;
  WarpState<T, D, kDirections> state;
  const auto step = [&](int chunk, const ChunkPlace& place) {
    auto& kept = scratch_of<D, kDirections>(scratch, start.block, walk.local, b.chunks, chunk / 2);
    if (enters_span(chunk, b.chunks, walk.reversed)) {
      state.store(kept.states.state, tile, b.lane);
    }
    advance(state, walk, place, [&](int mt, const float(&update)[2][4]) {
      kept.updates[chunk % 2].update[tile + mt][b.lane] = transposed_fragment<T>(update);
    });
  };
  if constexpr (kDirections == 2) {
    ReadySweep(b, walk.reversed, made_barriers(b, 0), 0).run(b.chunks, step);
  } else {
    if constexpr (kCut) {
      state.read(start.state, walk.first_row, b.lane);
    }
    sweep_groups<kCut ? Triangles::kTake : Triangles::kMake>(
        b, walk.reversed, StoredRows<T, D, false>{b, walk.reversed, {b.p.v, b.p.v_strides}}, step);
  }
}

// dS^T before a chunk from dS^T after it, dO^T lying in the place of V^T; `keep(mt, grad_r)` sees dR^T.
template <typename T, int D, int kDirections, typename Keep>
__device__ void retreat(WarpState<T, D, kDirections>& grad_state,
                        const Walk<T, D, kDirections>& walk, float d, const ChunkPlace& place,
                        const Keep& keep) {
  using Rows = TensorRows<D, kDirections>;
  constexpr int kMTiles = TensorBlock<T, D, kDirections>::kMTiles;
  constexpr bool kWide = WarpState<T, D, kDirections>::kWide;
  const auto& b = walk.b;
  const int products = b.products_offset(place);
  const uint32_t rows = b.rows_address(place), triangles = b.base + products;
  uint32_t m[4], p[4], values[kMTiles][4], from_q[kMTiles][4], from_k[kMTiles][4];
  Factors f[2][2];
  const auto load = [&] {
    load_matrices(m, triangles + walk.triangle_rows);
    load_matrices_transposed(p,
                             triangles + walk.triangle_columns + TensorProducts<kDirections>::kP);
    walk.load_factors(f, products);
  };
  if constexpr (kWide) {
    load();
    walk.load_values(values[0], rows, 0);
  }
  float sum[kMTiles][2][4] = {};
  grad_state.begin_read(sum, rows, walk.row_tiles);
  if constexpr (!kWide) {
    load();
  }
  grad_state.scale(walk.decay(products));
  grad_state.finish(sum);
#pragma unroll
  for (int mt = 0; mt < kMTiles; ++mt) {
    float grad_o[2][4], grad_r[2][4] = {};
    if constexpr (!kWide) {
      walk.load_values(values[mt], rows, mt);
    }
    walk.unpack_values(grad_o, values[mt]);
    uint32_t o[4], update[4];
    fragment<T>(o, grad_o);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        sum[mt][half][x] *= f[half][x & 1].write;
      }
      Half<T>::multiply(sum[mt][half], o, p[2 * half], p[2 * half + 1]);
    }
    fragment<T>(update, sum[mt]);
    Half<T>::multiply(grad_r[0], update, m[0], m[1]);
    Half<T>::multiply(grad_r[1], update, m[2], m[3]);
    keep(mt, grad_r);
    scaled_fragment<T>(from_q[mt], grad_o, [&](int half, int x) { return f[half][x].query; });
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        const Factors& factors = f[half][x & 1];
        grad_r[half][x] = -d * factors.query * grad_o[half][x] - factors.read * grad_r[half][x];
      }
    }
    fragment<T>(from_k[mt], grad_r);
  }
  grad_state.begin_add(from_k, rows, walk.column_tiles);
  grad_state.begin_add(from_q, rows + Rows::kQuery, walk.column_tiles);
  grad_state.finish_add();
}

template <bool kCut = false, typename T, int D, int kDirections>
__device__ void walk_gradients(const TensorBlock<T, D, kDirections>& b,
                               const TensorBackward<T>& backward, const WalkStart& start) {
  const Walk<T, D, kDirections> walk(b);
  const float d = b.correction(walk.local);
  const int tile = walk.first_row / 16;
  WarpState<T, D, kDirections> grad_state;
  const auto step = [&](int chunk, const ChunkPlace& place) {
    auto& kept =
        scratch_of<D, kDirections>(backward.scratch, start.block, walk.local, b.chunks, chunk / 2);
    if (enters_span(chunk, b.chunks, !walk.reversed)) {
      grad_state.store(kept.states.grad_state, tile, b.lane);
    }
    retreat(grad_state, walk, d, place, [&](int mt, const float(&grad_r)[2][4]) {
      kept.updates[chunk % 2].grad_update[tile + mt][b.lane] = transposed_fragment<T>(grad_r);
    });
  };
  if constexpr (kDirections == 2) {
    ReadySweep(b, !walk.reversed, rows_barriers(b, 0), 1).run(b.chunks, step);
  } else {
    if constexpr (kCut) {
      grad_state.read(start.grad_state, walk.first_row, b.lane);
    }
    sweep_groups<kCut ? Triangles::kTake : Triangles::kMake>(
        b, !walk.reversed,
        StoredRows<T, D>{b, !walk.reversed, {backward.grad_o, backward.grad_o_strides}}, step);
  }
}

// The parts of a block of both directions. It serves one (batch, head) only: two sweeps share its barriers.
template <typename T, int D>
__device__ void walk_resident(const TensorBlock<T, D, 2>& b, const TensorBackward<T>& backward,
                              const BackwardMaps& maps) {
  using Block = TensorBlock<T, D, 2>;
  const bool mapped = backward.scan.mapped;
  begin_block(b, mapped ? 1 : 32);
  if (b.warp < Block::kWalkers) {
    be_walker<D>();
    const WalkStart start{blockIdx.x, nullptr, nullptr};
    walk_states(b, backward.scratch, start);
    walk_gradients(b, backward, start);
    return;
  }
  be_maker<D>();
  const bool maker = b.warp < Block::kWalkers + Block::kMakers;
  if (!mapped) {
    if (maker) {
      make_chunks<false>(b);
      load_values(b, {backward.grad_o, backward.grad_o_strides});
    }
    return;
  }
#if __CUDA_ARCH__ >= 900
  if (maker) {
    make_chunks<true>(b);
  } else if (b.lane == 0) {
    copy_chunks(b, maps.rows);
    copy_values(b, maps.grad_o);
  }
#endif
}

// kCut: blocks of one direction of a segment.
template <typename T, int D, int kDirections, bool kCut = false>
__global__ void __launch_bounds__(TensorBlock<T, D, kDirections>::kThreads,
                                  TensorBlock<T, D, kDirections>::kMinBlocks)
    scan_tensor_walks_kernel(const __grid_constant__ TensorBackward<T> backward,
                             const __grid_constant__ BackwardMaps maps) {
  extern __shared__ __align__(1024) char tensor_memory[];
  const auto& scan = backward.scan;
  const auto first = static_cast<uint32_t>(scan.first);
  if constexpr (kDirections == 2) {
    walk_resident(TensorBlock<T, D, 2>(scan, tensor_memory, first + blockIdx.x), backward, maps);
  } else {
    uint32_t n = blockIdx.x;
    int segment = 0;
    WalkStart start{n, nullptr, nullptr};
    if constexpr (kCut) {
      const uint32_t count = gridDim.x / scan.segments;
      segment = static_cast<int>(n / count);
      n %= count;
      start = {n, segment_matrix<D>(scan, scan.states, n, segment - 1),
               segment_matrix<D>(scan, backward.grad_states, n, scan.segments - 2 - segment)};
    }
    const TensorBlock<T, D, 1> b(scan, tensor_memory, first + n, segment);
    walk_states<kCut>(b, backward.scratch, start);
    walk_gradients<kCut>(b, backward, start);
  }
}

}  // namespace comba::kernels::cuda
