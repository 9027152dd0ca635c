// Phase 1 of a chunk: M = (I + A)^-1 and P of both directions from its rows (tensor_forward.cuh).
#pragma once

#include "kernels/cuda/tensor_block.cuh"

namespace comba::kernels::cuda {

// Column j = lane & 15 of M = (I + A)^-1, for the triangle of this half of the warp, from A^T in scan order. Every element,
// once known, is taken from all below it: these do not wait for each other. Groups of four floats change places from row to
// row, so that the lanes that store (make_triangles) meet in few banks, and between directions, which are read together.
__device__ inline void invert_column(float (&m)[16], const float4* a, int j, int local) {
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    m[i] = i == j ? 1.f : 0.f;
  }
#pragma unroll
  for (int i = 0; i < 15; ++i) {
#pragma unroll
    for (int group = (i + 1) / 4; group < 4; ++group) {
      const float4 x = a[i * 4 + (group ^ (i >> 1 & 3) ^ 2 * local)];
      const float of[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (group * 4 + k > i) {
          m[group * 4 + k] -= of[k] * m[i];
        }
      }
    }
  }
}

// K K^T and Q K^T of a chunk: rows 8 half + quad, columns 8 n + 2 pair + x at [n][2 half + x]. Q K^T is zero without
// kOutputs.
struct Gram {
  float kk[2][4] = {}, qk[2][4] = {};
};
template <typename T, int D, bool kOutputs = true>
__device__ Gram make_gram(uint32_t chunk_rows, int lane) {
  using Rows = TensorRows<D, 1>;
  const uint32_t rows = tile_offset<D, kPairColumns>(lane),
                 columns = tile_offset<D, kPairRows>(lane);
  Gram gram;
#pragma unroll
  for (int step = 0; step < D / 16; ++step) {
    uint32_t k[4], q[4], other[4];
    load_matrices(k, chunk_rows + Rows::kKey + (rows ^ 32 * step));
    if constexpr (kOutputs) {
      load_matrices(q, chunk_rows + Rows::kQuery + (rows ^ 32 * step));
    }
    load_matrices(other, chunk_rows + Rows::kKey + (columns ^ 32 * step));
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      Half<T>::multiply(gram.kk[n], k, other[2 * n], other[2 * n + 1]);
      if constexpr (kOutputs) {
        Half<T>::multiply(gram.qk[n], q, other[2 * n], other[2 * n + 1]);
      }
    }
  }
  return gram;
}

// One triangle's gates at this lane's rows and columns, and where its elements go.
struct TriangleView {
  char* place;
  float d;
  float4 row[2];     // g, e, c
  float2 column[2];  // g

  template <typename Block>
  __device__ TriangleView(const Block& b, char* products, int local)
      : place(products + Block::Products::triangle(local)), d(b.correction(local)) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      row[half] = reinterpret_cast<const float4*>(place)[8 * half + (b.lane >> 2)];
      column[half] = reinterpret_cast<const float2*>(place + 256)[4 * half + (b.lane & 3)];
    }
  }
};

// Stores row 15 - j (reversed) or j of M^T: this lane's column m of M.
template <typename T>
__device__ void store_column(char* place, const float (&m)[16], int j, bool reversed) {
  uint32_t words[8];
#pragma unroll
  for (int w = 0; w < 8; ++w) {
    words[w] = Half<T>::pack(m[2 * w], m[2 * w + 1]);
  }
  const uint32_t order = reversed ? 0x1032 : 0x3210;
#pragma unroll
  for (int piece = 0; piece < 2; ++piece) {
    uint32_t out[4];
#pragma unroll
    for (int x = 0; x < 4; ++x) {
      const int w = 4 * piece + x;
      out[x] = __byte_perm(reversed ? words[7 - w] : words[w], 0, order);
    }
    *reinterpret_cast<uint4*>(place + triangle_piece(reversed ? 15 - j : j, piece)) =
        make_uint4(out[0], out[1], out[2], out[3]);
  }
}

// Phase 1 for one chunk of 16 tokens. A pair of different tokens, row i and column j, belongs to the direction that reaches
// i later: `after` (i > j) or `before` (i < j), each with its gram; with one direction both are the same and half the work
// is lost. P is left out without kOutputs.
template <typename T, bool kOutputs = true, typename Block>
__device__ void make_triangles(const Block& b, const Gram& gram_after, const Gram& gram_before,
                               char* products) {
  constexpr int kDirections = Block::kTogether;
  const int lane = b.lane, quad = lane >> 2, pair = lane & 3;
  const bool reversed = b.reversed(0);
  const int local_after = kDirections == 2 && reversed ? 1 : 0;
  const int local_before = kDirections == 2 ? 1 - local_after : 0;
  const TriangleView after(b, products, local_after), before(b, products, local_before);
  __syncwarp();

  // Where A^T's elements lie, see invert_column; of a reversed direction scan order is 15 - i, 15 - j.
  const int group = (quad >> 2 ^ pair) << 2;
  float* const a_after = reinterpret_cast<float*>(after.place) + 32 * pair;
  float* const a_before = reinterpret_cast<float*>(before.place) + 240 - 32 * pair;
  const int low_after = (group | quad & 3) ^ 8 * local_after;
  const int low_before = (group | quad & 3 ^ 3) ^ 8 * local_before;
  float p_after[2][4], p_before[2][4];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int x = 0; x < 2; ++x) {
        const int i = quad + 8 * half, j = 8 * n + 2 * pair + x, r = 2 * half + x;
        const bool late = half == n ? i > j : half > n;
        const float4 row = late ? after.row[half] : before.row[half];
        const float2 columns = late ? after.column[n] : before.column[n];
        const float g_j = x == 0 ? columns.x : columns.y;
        const float key = late ? gram_after.kk[n][r] : gram_before.kk[n][r];
        const float query = late ? gram_after.qk[n][r] : gram_before.qk[n][r];
        const float p =
            b.p.scale * (query - (late ? after.d : before.d) * key) * exp2_fast(row.x - g_j);
        const float on_diagonal = b.p.scale * (gram_after.qk[n][r] - after.d * gram_after.kk[n][r]);
        p_after[n][r] = late ? p : i == j ? on_diagonal : 0.f;
        p_before[n][r] = late ? 0.f : p;
        const bool scan_order = kDirections == 2 ? late : !reversed;
        float* const target = scan_order ? a_after + (low_after ^ 8 * half) + 128 * n + 16 * x
                                         : a_before + (low_before ^ 8 * half) - 128 * n - 16 * x;
        *target = row.z * exp2_fast(row.y - g_j) * key;
      }
    }
  }

  __syncwarp();
  float m[16];
  const int own = kDirections == 2 ? lane >> 4 : 0;
  char* const place = own == local_after ? after.place : before.place;
  invert_column(m, reinterpret_cast<const float4*>(place), lane & 15, own);
  __syncwarp();
  if (lane < 16 * kDirections) {
    store_column<T>(place, m, lane & 15, b.reversed(own));
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const uint32_t at = TensorProducts<1>::kP + triangle_piece(quad + 8 * half, n) + 4 * pair;
      const uint32_t first = Half<T>::pack(p_after[n][2 * half], p_after[n][2 * half + 1]);
      const uint32_t second = Half<T>::pack(p_before[n][2 * half], p_before[n][2 * half + 1]);
      if (kOutputs && (kDirections == 2 || !reversed)) {
        *reinterpret_cast<uint32_t*>(after.place + at) = first;
      }
      if (kOutputs && (kDirections == 2 || reversed)) {
        *reinterpret_cast<uint32_t*>(before.place + at) = second;
      }
    }
  }
}

template <bool kOutputs = true, typename T, int D, int kDirections>
__device__ void make_triangles(const TensorBlock<T, D, kDirections>& b, uint32_t chunk_rows,
                               char* products) {
  const Gram gram = make_gram<T, D, kOutputs>(chunk_rows, b.lane);
  make_triangles<T, kOutputs>(b, gram, gram, products);
}

}  // namespace comba::kernels::cuda
