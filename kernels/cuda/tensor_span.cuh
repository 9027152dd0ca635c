// A span of 32 tokens in shared memory for the parallel half of the backward scan, and its way there and back.
#pragma once

#include "kernels/cuda/tensor_walks.cuh"

namespace comba::kernels::cuda {

// Sums over Dv or Dk that the warps of a direction share, one value a token: of dO S with q and with k, of dR S and V' dS
// with k, of dR with v.
enum RowSum { kOutputQuery, kOutputKey, kReadKey, kWriteKey, kBeta, kRowSums };
// What a block of pairs of tokens, rows i and columns j, gives to the products with keys and queries, as operands a:
// dX, N, and the transposes of N - s d dX and s dX.
enum PairOperand { kPairOutput, kPairWrite, kPairKey, kPairQuery, kPairOperands };
// The blocks of pairs: of the span's first chunk in time, of the second, and of both.
enum PairBlock { kFirstPairs, kSecondPairs, kCrossPairs, kPairBlocks };
// What the pairs give to the gates' gradients, one value a token; those of two chunks behind those of one.
enum PairSum {
  kOwnRow,       // terms of dlog_alpha of row t that reach it
  kCorrections,  // <dX_t K, k_t>
  kFeedback,     // of dc
  kPairSums
};

template <typename T, int D, int kDirections>
struct SpanMemory {
  static constexpr int kParts = D / 32;               // 32 columns of Dk each
  static constexpr int kDirectionWarps = 2 * kParts;  // for each chunk and part
  static constexpr int kThreads = 32 * kDirectionWarps * kDirections;
  static constexpr int kMinBlocks = 512 / kThreads;  // an SM, that registers are kept for
  static constexpr int kRowBytes = kTensorSpan * D * 2;
  enum Rows { kKey, kQuery, kValue, kGradO };
  // Gradients on their way to the other direction, once the states are used.
  union States {
    SpanStates<D> span;
    float4 exchange[kDirectionWarps][6][32];
  };

  union {
    alignas(128) char rows[4][kRowBytes];
    T gradients[3][kTensorSpan]
               [D + 8];  // dQ, dK, dV once the rows are used; the stride is against bank conflicts
  };
  States states[kDirections];
  ChunkUpdates<D> updates[kDirections][2];
  uint4 operands[kDirections][kPairBlocks][kPairOperands][32];
  float row_sums[kDirections][kParts][kRowSums][kTensorSpan];  // in scan order, as the following
  float pair_sums[kDirections][2][kPairSums][kTensorSpan];
  float weights[kDirections][kTensorSpan][kTensorSpan + 1];  // terms of dlog_alpha by (i, j)
  float state_products[kDirections];                         // <S, dS>
};

// Starts copying the span's rows of k, q, v and dO.
template <typename T, int D, int kDirections>
__device__ void load_span(SpanMemory<T, D, kDirections>& memory, const TensorBackward<T>& backward,
                          const TensorBlock<T, D, kDirections>& b, int span) {
  using Memory = SpanMemory<T, D, kDirections>;
  constexpr int kPieces = D / 8, kRowsAtOnce = Memory::kThreads / kPieces;
  static_assert(kTensorSpan % kRowsAtOnce == 0 && kRowsAtOnce % 8 == 0);  // pieces lie alike
  const void* const sources[4] = {b.p.k, b.p.q, b.p.v, backward.grad_o};
  const RowStrides* const strides[4] = {&b.p.k_strides, &b.p.q_strides, &b.p.v_strides,
                                        &backward.grad_o_strides};
  const int piece = threadIdx.x % kPieces, first_row = threadIdx.x / kPieces;
  const int length = static_cast<int>(b.p.length);
  const auto target = static_cast<uint32_t>(__cvta_generic_to_shared(memory.rows[0])) +
                      row_piece<D>(first_row, piece);
#pragma unroll
  for (int which = 0; which < 4; ++which) {
    const RowStrides& s = *strides[which];
    const T* const rows = static_cast<const T*>(sources[which]) + b.first_direction * s.direction +
                          b.batch * s.batch + b.head * s.head + piece * 8;
    const int stride = static_cast<int>(s.time);
#pragma unroll
    for (int more = 0; more < kTensorSpan; more += kRowsAtOnce) {
      const int t = span * kTensorSpan + first_row + more;
      const bool present = t < length;
      copy_async(target + which * Memory::kRowBytes + more * D * 2,
                 rows + static_cast<int64_t>(present ? t : 0) * stride, present);
    }
  }
}

// Starts copying what the walks of this warp's direction left of the span; zeros for a chunk that is not there.
template <typename T, int D, int kDirections>
__device__ void load_scratch(SpanMemory<T, D, kDirections>& memory, void* scratch, int64_t block,
                             int chunks, int span) {
  constexpr int kStep = 32 * SpanMemory<T, D, kDirections>::kDirectionWarps;
  const int local = threadIdx.x / kStep, thread = threadIdx.x % kStep;
  const auto copy = [&](const void* to, const void* from, int bytes, bool present) {
    const auto target = static_cast<uint32_t>(__cvta_generic_to_shared(to)) + 16 * thread;
#pragma unroll
    for (int i = 0; i < bytes / 16 / kStep; ++i) {
      copy_async(target + 16 * kStep * i, static_cast<const uint4*>(from) + thread + kStep * i,
                 present);
    }
  };
  static_assert(sizeof(SpanStates<D>) % (16 * kStep) == 0 &&
                sizeof(ChunkUpdates<D>) % (16 * kStep) == 0);
  const auto& from = scratch_of<D, kDirections>(scratch, block, local, chunks, span);
  copy(&memory.states[local], &from.states, sizeof(SpanStates<D>), true);
#pragma unroll
  for (int chunk = 0; chunk < 2; ++chunk) {
    copy(&memory.updates[local][chunk], &from.updates[chunk], sizeof(ChunkUpdates<D>),
         2 * span + chunk < chunks);
  }
}

template <typename T, int D, int kDirections>
__device__ void store_span(const SpanMemory<T, D, kDirections>& memory,
                           const TensorBackward<T>& backward,
                           const TensorBlock<T, D, kDirections>& b, int span) {
  constexpr int kPieces = D / 8;
  constexpr int kRowsAtOnce = SpanMemory<T, D, kDirections>::kThreads / kPieces;
  T* const targets[3] = {backward.grad_q, backward.grad_k, backward.grad_v};
  const int direction = kDirections == 2 ? 0 : b.first_direction;
  const int piece = threadIdx.x % kPieces, length = static_cast<int>(b.p.length);
  const int64_t stride = b.p.heads * D;
  const int64_t first =
      (direction * b.p.batch + b.batch) * b.p.length * stride + b.head * D + piece * 8;
#pragma unroll
  for (int row = threadIdx.x / kPieces; row < kTensorSpan; row += kRowsAtOnce) {
    const int t = span * kTensorSpan + row;
    if (t < length) {
#pragma unroll
      for (int which = 0; which < 3; ++which) {
        *reinterpret_cast<uint4*>(targets[which] + first + t * stride) =
            *reinterpret_cast<const uint4*>(&memory.gradients[which][row][piece * 8]);
      }
    }
  }
}

}  // namespace comba::kernels::cuda
