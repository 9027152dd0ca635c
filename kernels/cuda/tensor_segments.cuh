// Long sequences of few heads, cut into segments that run at the same time. S after a segment is affine in S before it,
//   S^T_after = S^T_before F + L,
// L from a walk that starts with zero and F from one that starts with the identity over V = 0: exact, whatever the decay.
// Then one pass over the segments gives S after each, and tensor_forward.cuh starts every segment from there.
#pragma once

#include "kernels/cuda/tensor_state.cuh"

namespace comba::kernels::cuda {

// fp32, row-major; n-th of every task belongs to its n-th segment, and the last segment has none.
struct SegmentStates {
  float* states = nullptr;       // [tasks, segments - 1, D, D]: L, then S^T after the segment
  float* transitions = nullptr;  // the same of F; that of the first segment is not used
};

// Block `part` of a task: L of the first segment, then F and L of the next one, and so on.
COMBA_HOST_DEVICE constexpr int segment_parts(int segments) { return 2 * segments - 3; }

template <typename T, int D>
__global__ void __launch_bounds__(TensorBlock<T, D, 1>::kThreads, TensorBlock<T, D, 1>::kMinBlocks)
    scan_segments_kernel(const __grid_constant__ TensorScan<T> scan, const SegmentStates out) {
  extern __shared__ __align__(1024) char tensor_memory[];
  const auto tasks = static_cast<uint32_t>(scan.params.tasks());
  const uint32_t task = blockIdx.x % tasks;
  const int part = static_cast<int>(blockIdx.x / tasks), segment = (part + 1) / 2;
  const bool transition = part % 2 == 1;
  const TensorBlock<T, D, 1> b(scan, tensor_memory, task, segment);
  const Walk<T, D, 1> walk(b);
  WarpState<T, D, 1> state;
  if (transition) {
    state.visit_pairs(walk.first_row, b.lane, [](int row, int column, float& x, float& y) {
      x = row == column ? 1.f : 0.f;
      y = row == column + 1 ? 1.f : 0.f;
    });
  }
  sweep_groups(b, walk.reversed,
               StoredRows<T, D>{b, walk.reversed, {transition ? nullptr : b.p.v, b.p.v_strides}},
               [&](int, const ChunkPlace& place) {
                 advance(state, walk, place, [](int, const float(&)[2][4]) {});
               });
  float* const target = (transition ? out.transitions : out.states) +
                        (int64_t{task} * (scan.segments - 1) + segment) * D * D;
  state.visit_pairs(walk.first_row, b.lane, [&](int row, int column, float& x, float& y) {
    *reinterpret_cast<float2*>(target + row * D + column) = make_float2(x, y);
  });
}

// A block takes 16 rows of a task's S^T through its segments; a thread one column of some of them.
constexpr int kJoinRows = 16, kJoinThreads = 128;

template <int D>
__global__ void __launch_bounds__(kJoinThreads)
    scan_join_segments_kernel(const SegmentStates segments, int count) {
  constexpr int kOwn = kJoinRows * D / kJoinThreads, kBlocks = D / kJoinRows;
  __shared__ float before[D][kJoinRows];
  const int64_t task = int64_t{blockIdx.x} / kBlocks * count * D * D;
  const int column = threadIdx.x % D, row = threadIdx.x / D * kOwn;
  float* const states =
      segments.states + task + (blockIdx.x % kBlocks * kJoinRows + row) * D + column;
  const float* const transitions = segments.transitions + task + column;
  for (int n = 0; n < count; ++n) {
    float s[kOwn];
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      s[i] = states[(int64_t{n} * D + i) * D];
    }
    if (n > 0) {
#pragma unroll 16
      for (int k = 0; k < D; ++k) {
        const float f = transitions[(int64_t{n} * D + k) * D];
#pragma unroll
        for (int i = 0; i < kOwn; ++i) {
          s[i] = fmaf(before[k][row + i], f, s[i]);
        }
      }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      before[column][row + i] = s[i];
      states[(int64_t{n} * D + i) * D] = s[i];
    }
    __syncthreads();
  }
}

}  // namespace comba::kernels::cuda
