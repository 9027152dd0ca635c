// Long sequences of few heads, cut into segments that run at the same time. S after a segment is affine in S before it, and
// dS before it in dS after it, by the transposed matrix:
//   S^T_after = S^T_before F + L,   dS^T_before = dS^T_after F^T + N
// L comes from a walk that starts with zero, F from one that starts with the identity over V = 0, N from a walk back that
// starts with zero: exact, whatever the decay. Then one pass over the segments gives S after and dS before each, and the
// walks of tensor_forward.cuh and tensor_walks.cuh start every segment from there.
#pragma once

#include "kernels/cuda/tensor_walks.cuh"

namespace comba::kernels::cuda {

// fp32, row-major. A chain has a place for every step from a segment to the next. That of S, in scan order, has L and F of
// all segments but the last. That of dS, the other way round, has N and F^T of all but the first segment in scan order.
struct SegmentChains {
  float* states;       // [chains, segments - 1, D, D]: L or N, then S^T or dS^T
  float* transitions;  // the same of F or F^T; what a chain begins with is not used
  uint32_t tasks;      // chains of S; behind these, in the backward pass, those of dS
  bool gradients;
  int segments;

  uint32_t chains() const { return gradients ? 2 * tasks : tasks; }
  template <int D>
  __device__ int64_t place(uint32_t task, int segment) const {
    return (int64_t{task} * (segments - 1) + segment) * D * D;
  }
  template <int D>
  __device__ int64_t grad_place(uint32_t task, int segment) const {
    return (int64_t{tasks + task} * (segments - 1) + segments - 1 - segment) * D * D;
  }
};

template <typename T, int D>
struct SegmentBlock {
  static constexpr int kThreads = TensorBlock<T, D, 1>::kThreads;
  // An SM; both states of a warp at D = 128 are all its registers.
  static constexpr int kMinBlocks = D == 128 ? 1 : TensorBlock<T, D, 1>::kMinBlocks;
};

// L and F of all chunks up to this one from those before it.
template <typename T, int D>
__device__ void advance_both(WarpState<T, D, 1>& constant, WarpState<T, D, 1>& transition,
                             const Walk<T, D, 1>& walk, const ChunkPlace& place) {
  const auto& b = walk.b;
  const int products = b.products_offset(place);
  const uint32_t rows = b.rows_address(place);
  float read[2][1][2][4] = {}, update[2][2][4] = {};
  WarpState<T, D, 1>::begin_reads(read, constant, transition, rows, walk.row_tiles);
  const float decay = walk.decay(products);
  constant.scale(decay);
  transition.scale(decay);
  constant.finish(read[0], read[1]);
  uint32_t m[4], values[2][4] = {}, written[2][1][4];
  Factors f[2][2];
  load_matrices_transposed(m, b.base + products + walk.triangle_columns);
  walk.load_factors(f, products);
  walk.load_values(values[0], rows, 0);
#pragma unroll
  for (int which = 0; which < 2; ++which) {
    solve_update<T, Walk<T, D, 1>>(update[which], read[which][0], values[which], f, m);
    scaled_fragment<T>(written[which][0], update[which],
                       [&](int half, int x) { return f[half][x].write; });
  }
  constant.begin_add(written[0], rows, walk.column_tiles);
  transition.begin_add(written[1], rows, walk.column_tiles);
  constant.finish_add();
  transition.finish_add();
}

// L and F of every segment but the last, F of the first one for nothing; and the triangles of all of them, which is what the
// last one is walked for.
template <typename T, int D>
__global__ void __launch_bounds__(SegmentBlock<T, D>::kThreads, SegmentBlock<T, D>::kMinBlocks)
    scan_segments_kernel(const __grid_constant__ TensorScan<T> scan, const SegmentChains chains) {
  extern __shared__ __align__(1024) char tensor_memory[];
  const uint32_t task = blockIdx.x % chains.tasks;
  const int segment = static_cast<int>(blockIdx.x / chains.tasks);
  const TensorBlock<T, D, 1> b(scan, tensor_memory, static_cast<uint32_t>(scan.first) + task,
                               segment);
  const Walk<T, D, 1> walk(b);
  WarpState<T, D, 1> constant, transition;
  transition.visit_pairs(walk.first_row, b.lane, [](int row, int column, float& x, float& y) {
    x = row == column ? 1.f : 0.f;
    y = row == column + 1 ? 1.f : 0.f;
  });
  sweep_groups<Triangles::kKeep>(
      b, walk.reversed, StoredRows<T, D>{b, walk.reversed, {b.p.v, b.p.v_strides}},
      [&](int, const ChunkPlace& place) { advance_both(constant, transition, walk, place); });
  if (segment == chains.segments - 1) {
    return;
  }
  const int64_t place = chains.place<D>(task, segment);
  constant.write(chains.states + place, walk.first_row, b.lane);
  transition.write(chains.transitions + place, walk.first_row, b.lane);
  if (chains.gradients && segment > 0) {
    float* const transposed = chains.transitions + chains.grad_place<D>(task, segment);
    transition.visit_pairs(walk.first_row, b.lane, [&](int row, int column, float& x, float& y) {
      transposed[column * D + row] = x;
      transposed[(column + 1) * D + row] = y;
    });
  }
}

// N of every segment but the first.
template <typename T, int D>
__global__ void __launch_bounds__(TensorBlock<T, D, 1>::kThreads, TensorBlock<T, D, 1>::kMinBlocks)
    scan_segment_gradients_kernel(const __grid_constant__ TensorBackward<T> backward,
                                  const SegmentChains chains) {
  extern __shared__ __align__(1024) char tensor_memory[];
  const uint32_t task = blockIdx.x % chains.tasks;
  const int segment = static_cast<int>(blockIdx.x / chains.tasks) + 1;
  const TensorBlock<T, D, 1> b(backward.scan, tensor_memory,
                               static_cast<uint32_t>(backward.scan.first) + task, segment);
  const Walk<T, D, 1> walk(b);
  const float d = b.correction(0);
  WarpState<T, D, 1> grad_state;
  sweep_groups<Triangles::kTake>(
      b, !walk.reversed,
      StoredRows<T, D>{b, !walk.reversed, {backward.grad_o, backward.grad_o_strides}},
      [&](int, const ChunkPlace& place) {
        retreat(grad_state, walk, d, place, [](int, const float(&)[2][4]) {});
      });
  grad_state.write(chains.states + chains.grad_place<D>(task, segment), walk.first_row, b.lane);
}

// A block takes 16 rows of a chain's matrices through its segments; a thread two columns of some of them. What a step needs is
// copied to shared memory several steps ahead.
constexpr int kJoinRows = 16, kJoinThreads = 128;
template <int D>
struct JoinMemory {
  static constexpr int kStages = D == 128 ? 2 : 4;
  float2 transitions[kStages][D][D / 2];
  float2 constants[kStages][kJoinRows][D / 2];
  float2 before[kJoinRows][D / 2];
};

// Starts copying what step n of a chain needs, if there is one. `rows`: of the block in the first of the chain's matrices.
template <int D>
__device__ void ask_step(JoinMemory<D>& memory, const float* transitions, const float* rows, int n,
                         int count) {
  const int stage = n % JoinMemory<D>::kStages;
  const auto copy = [&](const void* to, const float* from, int floats) {
    const auto target = static_cast<uint32_t>(__cvta_generic_to_shared(to));
    for (int i = 4 * threadIdx.x; i < floats; i += 4 * kJoinThreads) {
      copy_async(target + 4 * i, from + int64_t{n} * D * D + i, true);
    }
  };
  if (n < count) {
    copy(memory.constants[stage], rows, kJoinRows * D);
    if (n > 0) {
      copy(memory.transitions[stage], transitions, D * D);
    }
  }
  asm volatile("cp.async.commit_group;");
}

template <int D>
__global__ void __launch_bounds__(kJoinThreads)
    scan_join_segments_kernel(const SegmentChains chains) {
  constexpr int kOwn = kJoinRows * D / 2 / kJoinThreads, kBlocks = D / kJoinRows;
  constexpr int kStages = JoinMemory<D>::kStages;
  extern __shared__ __align__(1024) char tensor_memory[];
  auto& memory = *reinterpret_cast<JoinMemory<D>*>(tensor_memory);
  const int count = chains.segments - 1, pair = threadIdx.x % (D / 2);
  const int row = threadIdx.x / (D / 2) * kOwn;
  const int64_t chain = int64_t{blockIdx.x} / kBlocks * count * D * D;
  const float* const transitions = chains.transitions + chain;
  float* const rows = chains.states + chain + blockIdx.x % kBlocks * kJoinRows * D;
#pragma unroll
  for (int n = 0; n < kStages - 1; ++n) {
    ask_step(memory, transitions, rows, n, count);
  }
  for (int n = 0; n < count; ++n) {
    asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 2));
    __syncthreads();  // so are the others' parts, and what they have written of the last step
    float2 s[kOwn];
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      s[i] = memory.constants[n % kStages][row + i][pair];
    }
    if (n > 0) {
#pragma unroll 8
      for (int k = 0; k < D / 2; ++k) {
        const float2 low = memory.transitions[n % kStages][2 * k][pair];
        const float2 high = memory.transitions[n % kStages][2 * k + 1][pair];
#pragma unroll
        for (int i = 0; i < kOwn; ++i) {
          const float2 x = memory.before[row + i][k];
          s[i].x = fmaf(x.y, high.x, fmaf(x.x, low.x, s[i].x));
          s[i].y = fmaf(x.y, high.y, fmaf(x.x, low.y, s[i].y));
        }
      }
    }
    __syncthreads();
    ask_step(memory, transitions, rows, n + kStages - 1, count);
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      memory.before[row + i][pair] = s[i];
      *reinterpret_cast<float2*>(rows + (int64_t{n} * D + row + i) * D + 2 * pair) = s[i];
    }
  }
}

}  // namespace comba::kernels::cuda
