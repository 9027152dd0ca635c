// q, k, v of a direction from the raw projections, as their chunks arrive: short convolution, SiLU, L2 norm (mixer.h).
//
// The raw rows of a group of chunks are copied to where its rows belong, the three tokens before them beside. A lane has
// four channels of a strip of tokens; it takes the tokens before its strip into registers, waits until all have, and
// walks the strip in scan order, leaving every row in the place of its own token.
#pragma once

#include "kernels/cuda/mixer_cuda.h"
#include "kernels/cuda/mixer_lanes.cuh"
#include "kernels/cuda/tensor_sweep.cuh"

namespace comba::kernels::cuda {

template <typename T, int D>
struct ConvolvedRows {
  using Block = TensorBlock<T, D, 1>;
  using Rows = typename Block::Rows;
  static constexpr bool kPrepared = false;
  static constexpr int E = 4, kBefore = kMixerTaps - 1;
  static constexpr int kLanes = D / E, kStrips = Block::kThreads / kLanes;
  static constexpr int kStrip = Block::kGroup * kTensorChunk / kStrips;  // tokens
  static_assert(kTensorChunk % kStrip == 0 && kLanes <= 32);
  // Behind the chunks' memory: [2 groups in flight][3 parts][3 tokens][D]
  static constexpr int kBeforeBytes = 3 * kBefore * D * 2;
  static constexpr int kBytes = 2 * kBeforeBytes;

  const Block& b;
  bool down;
  const RowConvolution& convolution;

  // The places of the operator's parts q, k, v among a chunk's rows.
  static __device__ constexpr int place(int part) {
    return part == 0 ? Rows::kQuery : part == 1 ? Rows::kKey : Rows::kValue;
  }
  __device__ char* tokens_before(int group_start) const {
    return b.memory + tensor_shared_bytes<D>() + group_start / Block::kGroup % 2 * kBeforeBytes;
  }

  // Starts copying the raw rows of chunks first .. end - 1 of the sweep.
  __device__ void load(int first, int end) const {
    b.load_rows({{Rows::kKey, b.p.k, b.p.k_strides},
                 {Rows::kQuery, b.p.q, b.p.q_strides},
                 {Rows::kValue, b.p.v, b.p.v_strides}},
                first, end, down);
    constexpr int kPieces = D / 8;
    const int piece = threadIdx.x % kPieces, row = threadIdx.x / kPieces;
    if (first < end && row < 3 * kBefore) {
      const int part = row / kBefore, distance = kBefore - row % kBefore;
      const int chunk = b.chunk_of(first, down) * kTensorChunk;
      const int t = down ? chunk + kTensorChunk - 1 + distance : chunk - distance;
      const bool present = t >= 0 && t < b.p.length;
      const RowStrides& s = part == 0 ? b.p.q_strides : part == 1 ? b.p.k_strides : b.p.v_strides;
      const void* const rows = part == 0 ? b.p.q : part == 1 ? b.p.k : b.p.v;
      copy_async(static_cast<uint32_t>(__cvta_generic_to_shared(tokens_before(first))) +
                     (row * D + piece * 8) * 2,
                 static_cast<const T*>(rows) + b.batch * s.batch + b.head * s.head +
                     (present ? t : 0) * s.time + piece * 8,
                 present);
    }
  }

  // Turns them into q, k, v once they are there. All threads of the block.
  __device__ void prepare(int first, int end) const {
    using Lane = Packed<T, E>;
    const int strip = threadIdx.x / kLanes, column = E * (threadIdx.x % kLanes);
    const int token = strip * kStrip, n = first + token / kTensorChunk;
    const Tokens tokens(*this, n, token % kTensorChunk, column);
    Lane before[3][kBefore];
    if (strip == 0) {
      const T* const at = reinterpret_cast<const T*>(tokens_before(first)) + column;
#pragma unroll
      for (int i = 0; i < 3 * kBefore; ++i) {
        before[i / kBefore][i % kBefore] = Lane::load(at + i * D);
      }
    } else {
      const int last = token - kStrip;
      const Tokens others(*this, first + last / kTensorChunk, last % kTensorChunk, column);
#pragma unroll
      for (int i = 0; i < 3 * kBefore; ++i) {
        before[i / kBefore][i % kBefore] =
            Lane::load(others.at(i / kBefore, kStrip - kBefore + i % kBefore));
      }
    }
    __syncthreads();
    if (n < end) {  // the same for a warp: its strips are of one chunk
#pragma unroll
      for (int part = 0; part < 3; ++part) {
        walk(part, tokens, before[part], column);
      }
    }
  }

 private:
  // The places of a lane's channels of a strip's tokens in scan order.
  struct Tokens {
    char* start;
    int step;
    uint32_t piece;

    __device__ Tokens(const ConvolvedRows& rows, int n, int first, int column) {
      const Block& b = rows.b;
      const int row = rows.down ? kTensorChunk - 1 - first : first;
      step = (rows.down ? -1 : 1) * D * 2;
      piece = row_piece<D>(row, column / 8) - row * D * 2;
      start = b.memory + b.place(n, 0).rows * Rows::kBytes + row * D * 2 + column % 8 * 2;
    }
    // Row `row` +- j has the spread of `row` exclusive-or that of j, as strips are aligned.
    __device__ T* at(int part, int j) const {
      const uint32_t spread = row_piece<D>(j, 0) - j * D * 2;
      return reinterpret_cast<T*>(start + place(part) + j * step + (piece ^ spread));
    }
  };

  __device__ void walk(int part, const Tokens& tokens, const Packed<T, E> (&before)[kBefore],
                       int column) const {
    using Lane = Packed<T, E>;
    constexpr int kAtOnce = 4;
    const bool normalize = convolution.normalize && part < 2;
    const LaneTaps<E> taps(convolution.taps,
                           ((b.first_direction * 3 + part) * b.p.heads + b.head) * D + column);
    Channels<E> window[4];
#pragma unroll
    for (int i = 0; i < kBefore; ++i) {
      window[i] = before[i].unpack();
    }
#pragma unroll
    for (int from = 0; from < kStrip; from += kAtOnce) {
      Channels<E> u[kAtOnce] = {};
      float squares[1][kAtOnce];
#pragma unroll
      for (int m = 0; m < kAtOnce; ++m) {
        window[(m + 3) % 4] = Lane::load(tokens.at(part, from + m)).unpack();
#pragma unroll
        for (int j = 0; j < kMixerTaps; ++j) {
          add_product(u[m], taps.w[j], window[(m + j) % 4]);
        }
        u[m] = product(u[m], sigmoid(u[m]));
        squares[0][m] = dot(u[m], u[m]);
      }
      if (normalize) {
        LaneGroup<D, E>::sum_all(squares);
      }
#pragma unroll
      for (int m = 0; m < kAtOnce; ++m) {
        const float scale =
            normalize ? rsqrtf(squares[0][m] + static_cast<float>(kRowNormEps)) : 1.f;
        Lane::pack(product(scale, u[m])).store(tokens.at(part, from + m));
      }
    }
  }
};

}  // namespace comba::kernels::cuda
