// What the tensor-core kernels of the scan share: a block's place, the gates of a chunk, the triangles M and P.
#pragma once

#include "kernels/cuda/tensor_matrix.cuh"

namespace comba::kernels::cuda {

constexpr int kTensorChunk = 16;  // C
// exp() of it is zero in fp32, and sums of it stay finite where log alpha is -inf.
constexpr float kLogAlphaFloor = -200.f;

// Byte offsets into the block's shared memory.
template <int D, int kDirections>
struct TensorLayout {
  int rows, chunks, q, v, triangles, gates, decay, bytes;

  COMBA_HOST_DEVICE explicit TensorLayout(int64_t length)
      : chunks(static_cast<int>((length + kTensorChunk - 1) / kTensorChunk)) {
    rows = chunks * kTensorChunk;
    q = rows * D * 2;
    v = 2 * q;
    triangles =
        3 * q;  // [chunk][direction]: first A (fp32), then M and P (16 x 16 half-width each)
    gates = triangles + chunks * kDirections * 1024;
    decay = gates + kDirections * 4 * rows * 4;
    bytes = decay + kDirections * chunks * 4;
  }
};

template <typename T>
struct TensorScan {
  ScanParams<float> params;
  T* o = nullptr;       // [B, T, H, D] (merged) or [R, B, T, H, D], contiguous
  bool merged = false;  // both directions add up in o
  int64_t first = 0;    // block 0 serves this (batch, head) or, with rows of its own, this task
};

// One block's view: its place in the tensors and in shared memory.
template <typename T, int D, int kDirections>
struct TensorBlock {
  static constexpr int kWarps = D == 128 ? 8 : (D == 32 && kDirections == 1 ? 2 : 4);
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kDirectionWarps = kWarps / kDirections;
  static constexpr int kMTiles = D / 16 / kDirectionWarps;

  const TensorScan<T>& scan;
  const ScanParams<float>& p;
  TensorLayout<D, kDirections> layout;
  char* memory;
  uint32_t base;  // its shared address
  int first_direction;
  int64_t batch, head;
  int warp, lane;

  __device__ TensorBlock(const TensorScan<T>& s, char* shared, int64_t block)
      : scan(s),
        p(s.params),
        layout(p.length),
        memory(shared),
        base(static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
        first_direction(0),
        warp(threadIdx.x / 32),
        lane(threadIdx.x % 32) {
    int64_t n = scan.first + block;
    if (kDirections == 1) {
      first_direction = static_cast<int>(n / (p.batch * p.heads));
      n %= p.batch * p.heads;
    }
    batch = n / p.heads;
    head = n % p.heads;
  }

  __device__ bool reversed(int local) const {
    return ((first_direction + local) == 1) != p.reverse;
  }
  // What tokens of a direction, in scan order, are multiplied by: read c exp(e), beta, query scale exp(g), write
  // exp(G - g).
  __device__ float* gate(int local, int kind) const {
    return reinterpret_cast<float*>(memory + layout.gates) + (local * 4 + kind) * layout.rows;
  }
  __device__ float* decay(int local) const {
    return reinterpret_cast<float*>(memory + layout.decay) + local * layout.chunks;
  }
  __device__ int triangle(int chunk, int local) const {
    return layout.triangles + (chunk * kDirections + local) * 1024;
  }
  __device__ int64_t gate_index(int local, int64_t t) const {
    return (((first_direction + local) * p.batch + batch) * p.length + t) * p.heads + head;
  }
  __device__ float correction(int local) const {
    return p.d[(first_direction + local) * p.heads + head];
  }

  // Starts copying the rows of every token of a [R, B, T, H, D] tensor to `offset`.
  __device__ void load_rows(int offset, const void* source, const RowStrides& strides) const {
    const T* first = static_cast<const T*>(source) + first_direction * strides.direction +
                     batch * strides.batch + head * strides.head;
    for (int i = threadIdx.x; i < layout.rows * (D / 8); i += kThreads) {
      const int row = i / (D / 8), piece = i % (D / 8);
      const bool present = row < p.length;
      copy_async(base + offset + row_piece<D>(row, piece),
                 first + (present ? row * strides.time : 0) + piece * 8, present);
    }
  }
};

// What a lane knows of token i = lane & 15 (in scan order) of a chunk.
struct TokenGates {
  float g, e, c, beta;
  float end;  // G, the same in all lanes of the token's half-warp
};

template <typename Block>
__device__ TokenGates token_gates(const Block& b, int chunk, int local) {
  const int i = b.lane & 15;
  const int64_t t = int64_t{chunk} * kTensorChunk + (b.reversed(local) ? 15 - i : i);
  const bool present = t < b.p.length;
  const int64_t at = present ? b.gate_index(local, t) : 0;
  TokenGates gates;
  gates.g = present ? fmaxf(b.p.log_alpha[at], kLogAlphaFloor) : 0.f;
  gates.c = present ? b.p.c[at] : 0.f;
  gates.beta = present ? b.p.beta[at] : 0.f;
#pragma unroll
  for (int step = 1; step < 16; step *= 2) {
    const float before = __shfl_up_sync(~0u, gates.g, step, 16);
    gates.g += i >= step ? before : 0.f;
  }
  const float before = __shfl_up_sync(~0u, gates.g, 1, 16);
  gates.e = b.p.decayed_feedback ? gates.g : (i > 0 ? before : 0.f);
  gates.end = __shfl_sync(~0u, gates.g, 15, 16);
  return gates;
}

// Leaves the factors of a chunk's tokens for the walks; lanes 0-15 the first direction, 16-31 the second.
template <typename Block>
__device__ void store_gates(const Block& b, const TokenGates& gates, int chunk, int local) {
  const int i = b.lane & 15, place = b.reversed(local) ? b.layout.chunks - 1 - chunk : chunk;
  const int at = place * kTensorChunk + i;
  b.gate(local, 0)[at] = gates.c * __expf(gates.e);
  b.gate(local, 1)[at] = gates.beta;
  b.gate(local, 2)[at] = b.p.scale * __expf(gates.g);
  b.gate(local, 3)[at] = __expf(gates.end - gates.g);
  if (i == 15) {
    b.decay(local)[place] = __expf(gates.end);
  }
}

// Column j = lane & 15 of (I + A)^-1 for the triangle of this half of the warp; A in rows of 16 floats whose groups of
// four are exchanged by `exchange`.
__device__ inline void invert_column(float (&m)[16], const float4* a, int j, int exchange) {
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    float sum = i == j ? 1.f : 0.f;
#pragma unroll
    for (int group = 0; group * 4 < i; ++group) {
      const float4 x = a[i * 4 + (group ^ exchange)];
      sum -= x.x * m[group * 4];
      sum -= group * 4 + 1 < i ? x.y * m[group * 4 + 1] : 0.f;
      sum -= group * 4 + 2 < i ? x.z * m[group * 4 + 2] : 0.f;
      sum -= group * 4 + 3 < i ? x.w * m[group * 4 + 3] : 0.f;
    }
    m[i] = sum;
  }
}

// Phase 1 for one chunk of 16 tokens in time order.
template <typename T, int D, int kDirections>
__device__ void make_triangles(const TensorBlock<T, D, kDirections>& b, int chunk) {
  const int lane = b.lane, quad = lane >> 2, pair = lane & 3;
  const int own = kDirections == 2 ? lane >> 4 : 0;
  const TokenGates gates = token_gates(b, chunk, own);
  if (lane < 16 * kDirections) {
    store_gates(b, gates, chunk, own);
  }

  float kk[2][4] = {}, qk[2][4] = {};
  const int row = chunk * 16 + (lane & 15);
#pragma unroll
  for (int step = 0; step < D / 16; ++step) {
    uint32_t k[4], q[4];
    const uint32_t at = b.base + row_piece<D>(row, 2 * step + (lane >> 4));
    load_matrices(k, at);
    load_matrices(q, at + b.layout.q);
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      Half<T>::multiply(kk[n], k, k[n], k[n + 2]);
      Half<T>::multiply(qk[n], q, k[n], k[n + 2]);
    }
  }

  float own_p[kDirections][2][4];  // P of each direction at this lane's elements
#pragma unroll
  for (int local = 0; local < kDirections; ++local) {
    const bool reversed = b.reversed(local);
    const float d = b.correction(local);
    float* a = reinterpret_cast<float*>(b.memory + b.triangle(chunk, local));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i_time = quad + 8 * half, i = reversed ? 15 - i_time : i_time;
      const float g_i = __shfl_sync(~0u, gates.g, i + 16 * local);
      const float e_i = __shfl_sync(~0u, gates.e, i + 16 * local);
      const float c_i = __shfl_sync(~0u, gates.c, i + 16 * local);
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        const int n = x >> 1, r = 2 * half + (x & 1);
        const int j_time = 8 * n + 2 * pair + (x & 1), j = reversed ? 15 - j_time : j_time;
        const float g_j = __shfl_sync(~0u, gates.g, j + 16 * local);
        const float p = b.p.scale * (qk[n][r] - d * kk[n][r]);
        own_p[local][n][r] = i < j ? 0.f : i == j ? p : p * __expf(g_i - g_j);
        if (i > j) {
          a[i * 16 + (((j >> 2) ^ (2 * local)) << 2) + (j & 3)] =
              c_i * __expf(e_i - g_j) * kk[n][r];
        }
      }
    }
  }

  __syncwarp();
  float m[16];
  const int j = lane & 15;
  char* triangle = b.memory + b.triangle(chunk, own);
  invert_column(m, reinterpret_cast<const float4*>(triangle), j, 2 * own);
  __syncwarp();
  if (lane < 16 * kDirections) {
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      *reinterpret_cast<T*>(triangle + triangle_piece(i, j >> 3) + (j & 7) * 2) =
          Half<T>::round(m[i]);
    }
  }
#pragma unroll
  for (int at = 0; at < kDirections; ++at) {
    const bool reversed = b.reversed(at);
    char* p = b.memory + b.triangle(chunk, at) + 512;
#pragma unroll
    for (int x = 0; x < 4; ++x) {
      const int n = x >> 1, half = x & 1, i_time = quad + 8 * half, j_time = 8 * n + 2 * pair;
      const float first = own_p[at][n][2 * half], second = own_p[at][n][2 * half + 1];
      const int i = reversed ? 15 - i_time : i_time, low = reversed ? 14 - j_time : j_time;
      *reinterpret_cast<uint32_t*>(p + triangle_piece(i, low >> 3) + (low & 7) * 2) =
          reversed ? Half<T>::pack(second, first) : Half<T>::pack(first, second);
    }
  }
}

}  // namespace comba::kernels::cuda
