// The walk over the chunks: a warp's rows of S^T (or dS^T) in its accumulators.
//
// No product of the walk needs another warp's rows, so its warps never wait for each other.
#pragma once

#include "kernels/cuda/tensor_sweep.cuh"

namespace comba::kernels::cuda {

// One warp's rows of S^T or dS^T, and where its fragments go.
template <typename T, int D, int kMTiles>
struct WarpState {
  float value[kMTiles][D / 8][4] = {};

  // Columns 16 step .. + 15 as an operand a.
  __device__ void pack(uint32_t (&a)[4], int mt, int step) const {
    const float(&low)[4] = value[mt][2 * step], (&high)[4] = value[mt][2 * step + 1];
    a[0] = Half<T>::pack(low[0], low[1]);
    a[1] = Half<T>::pack(low[2], low[3]);
    a[2] = Half<T>::pack(high[0], high[1]);
    a[3] = Half<T>::pack(high[2], high[3]);
  }

  // sum += value rows^T. `rows`: address of 16 rows in shared memory plus this lane's offset (kPairRows) into each tile.
  __device__ void multiply(float (&sum)[kMTiles][2][4], const uint32_t (&rows)[D / 16]) const {
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      uint32_t b[4];
      load_matrices(b, rows[step]);
#pragma unroll
      for (int mt = 0; mt < kMTiles; ++mt) {
        uint32_t a[4];
        pack(a, mt, step);
        Half<T>::multiply(sum[mt][0], a, b[0], b[1]);
        Half<T>::multiply(sum[mt][1], a, b[2], b[3]);
      }
    }
  }
  // The same for these rows and those `distance` bytes behind them.
  __device__ void multiply(float (&sum)[kMTiles][2][4], float (&other)[kMTiles][2][4],
                           const uint32_t (&rows)[D / 16], int distance) const {
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      uint32_t b[4], c[4];
      load_matrices(b, rows[step]);
      load_matrices(c, rows[step] + distance);
#pragma unroll
      for (int mt = 0; mt < kMTiles; ++mt) {
        uint32_t a[4];
        pack(a, mt, step);
        Half<T>::multiply(sum[mt][0], a, b[0], b[1]);
        Half<T>::multiply(sum[mt][1], a, b[2], b[3]);
        Half<T>::multiply(other[mt][0], a, c[0], c[1]);
        Half<T>::multiply(other[mt][1], a, c[2], c[3]);
      }
    }
  }
  // value += a rows; offsets of kPairColumns.
  __device__ void add_product(const uint32_t (&a)[kMTiles][4], const uint32_t (&rows)[D / 16]) {
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      uint32_t b[4];
      load_matrices_transposed(b, rows[step]);
#pragma unroll
      for (int mt = 0; mt < kMTiles; ++mt) {
        Half<T>::multiply(value[mt][2 * step], a[mt], b[0], b[1]);
        Half<T>::multiply(value[mt][2 * step + 1], a[mt], b[2], b[3]);
      }
    }
  }
  __device__ void scale(float factor) {
#pragma unroll
    for (int mt = 0; mt < kMTiles; ++mt) {
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
#pragma unroll
        for (int x = 0; x < 4; ++x) {
          value[mt][n][x] *= factor;
        }
      }
    }
  }
  // visit(row, column, x, y) for this lane's pairs of neighbours.
  template <typename Visit>
  __device__ void visit_pairs(int first_row, int lane, const Visit& visit) {
#pragma unroll
    for (int mt = 0; mt < kMTiles; ++mt) {
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          visit(first_row + 16 * mt + 8 * half + (lane >> 2), 8 * n + 2 * (lane & 3),
                value[mt][n][2 * half], value[mt][n][2 * half + 1]);
        }
      }
    }
  }
  // `first_tile`: this warp's first tile of 16 rows.
  __device__ void store(uint4 (&target)[D / 16][D / 16][32], int first_tile, int lane) const {
#pragma unroll
    for (int mt = 0; mt < kMTiles; ++mt) {
#pragma unroll
      for (int n = 0; n < D / 16; ++n) {
        const float(&low)[4] = value[mt][2 * n], (&high)[4] = value[mt][2 * n + 1];
        target[first_tile + mt][n][lane] = make_uint4(transposed(Half<T>::pack(low[0], low[1])),
                                                      transposed(Half<T>::pack(low[2], low[3])),
                                                      transposed(Half<T>::pack(high[0], high[1])),
                                                      transposed(Half<T>::pack(high[2], high[3])));
      }
    }
  }
};

// [Dv rows, 16 tokens] as the operand a of its transpose.
template <typename T>
__device__ uint4 transposed_fragment(const float (&x)[2][4]) {
  return make_uint4(
      transposed(Half<T>::pack(x[0][0], x[0][1])), transposed(Half<T>::pack(x[1][0], x[1][1])),
      transposed(Half<T>::pack(x[0][2], x[0][3])), transposed(Half<T>::pack(x[1][2], x[1][3])));
}
// [Dv rows, 16 tokens] with columns times `factor(half, x)`, as an operand a.
template <typename T, typename Factor>
__device__ void scaled_fragment(uint32_t (&a)[4], const float (&x)[2][4], const Factor& factor) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float first = factor(half, 0), second = factor(half, 1);
    a[2 * half] = Half<T>::pack(first * x[half][0], second * x[half][1]);
    a[2 * half + 1] = Half<T>::pack(first * x[half][2], second * x[half][3]);
  }
}
template <typename T>
__device__ void fragment(uint32_t (&a)[4], const float (&x)[2][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    a[2 * half] = Half<T>::pack(x[half][0], x[half][1]);
    a[2 * half + 1] = Half<T>::pack(x[half][2], x[half][3]);
  }
}

// One warp's way through the chunks.
template <typename T, int D, int kDirections>
struct Walk {
  using Block = TensorBlock<T, D, kDirections>;
  using Rows = TensorRows<D, kDirections>;
  using Products = TensorProducts<kDirections>;
  const Block& b;
  int local, first_row;
  bool reversed;
  // This lane's offsets into a chunk's rows and products.
  uint32_t row_tiles[D / 16], column_tiles[D / 16];  // of keys; kPairRows, kPairColumns
  uint32_t value_tile;                               // kPairRows, this warp's first tile of values
  uint32_t triangle_rows, triangle_columns;
  uint32_t factors;

  __device__ explicit Walk(const Block& block)
      : b(block),
        local(block.warp / Block::kDirectionWarps),
        first_row(block.warp % Block::kDirectionWarps * 16 * Block::kMTiles),
        reversed(block.reversed(local)) {
    const int lane = b.lane;
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      row_tiles[step] = tile_offset<D, kPairRows>(lane) ^ 32 * step;
      column_tiles[step] = tile_offset<D, kPairColumns>(lane) ^ 32 * step;
    }
    value_tile = tile_offset<D, kPairRows>(lane) ^ 2 * first_row;
    const int triangle = Products::kTriangle + local * Products::kTriangleBytes;
    triangle_rows =
        triangle + triangle_piece(tile_row<kPairRows>(lane), tile_piece<kPairRows>(lane));
    triangle_columns =
        triangle + triangle_piece(tile_row<kPairColumns>(lane), tile_piece<kPairColumns>(lane));
    factors = Products::kFactors + local * Products::kFactorBytes + 32 * (lane & 3);
  }

  __device__ static void addresses(uint32_t (&at)[D / 16], uint32_t rows,
                                   const uint32_t (&tiles)[D / 16]) {
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      at[step] = rows + tiles[step];
    }
  }
  // This warp's rows of the m-tile of V^T (or of what has taken its place) as accumulators.
  __device__ void load_values(float (&x)[2][4], uint32_t rows, int mt) const {
    uint32_t v[4];
    load_matrices_transposed(v, rows + Rows::kValue + (value_tile ^ 32 * mt));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float2 low = Half<T>::unpack(v[2 * half]), high = Half<T>::unpack(v[2 * half + 1]);
      x[half][0] = low.x;
      x[half][1] = low.y;
      x[half][2] = high.x;
      x[half][3] = high.y;
    }
  }
  // Those of this lane's tokens 8 half + 2 pair + x at [half][x].
  __device__ void load_factors(Factors (&f)[2][2], int products) const {
    const char* at = b.memory + products + factors;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      f[half][0] = *reinterpret_cast<const Factors*>(at + 128 * half);
      f[half][1] = *reinterpret_cast<const Factors*>(at + 128 * half + 16);
    }
  }
  __device__ float decay(int products) const {
    return reinterpret_cast<const float*>(b.memory + products + Products::kDecay)[local];
  }
};

// O^T [Dv rows, 16 tokens] of a warp and chunk on its way to the output. Where both directions add up there, the first
// leaves its accumulators as they are, 16 bytes a lane, in the place of the rows (of the last chunk, whose rows may be
// fewer, in shared memory): the second has the same layout and adds to them.
template <typename T, int D, int kDirections>
struct OutputTile {
  static constexpr int kMTiles = TensorBlock<T, D, kDirections>::kMTiles;
  const Walk<T, D, kDirections>& walk;
  int64_t stride;  // elements from token to token
  T* output;       // of the first token, this warp's first column
  uint4 left[kMTiles];

  __device__ explicit OutputTile(const Walk<T, D, kDirections>& w)
      : walk(w), stride(w.b.p.heads * D) {
    const auto& b = walk.b;
    const int direction = b.scan.merged ? 0 : b.first_direction + walk.local;
    output = b.scan.o + ((direction * b.p.batch + b.batch) * b.p.length * b.p.heads + b.head) * D +
             walk.first_row;
  }
  __device__ uint4* place(int chunk, int mt) const {
    const auto& b = walk.b;
    if (chunk == b.chunks - 1) {
      return reinterpret_cast<uint4*>(b.spare()) + (walk.first_row / 16 + mt) * 32 + b.lane;
    }
    return reinterpret_cast<uint4*>(output + (chunk * kTensorChunk + (b.lane >> 1)) * stride +
                                    16 * mt + 8 * (b.lane & 1));
  }
  __device__ void leave(const float (&o)[kMTiles][2][4], int chunk) const {
#pragma unroll
    for (int mt = 0; mt < kMTiles; ++mt) {
      const float(&low)[4] = o[mt][0], (&high)[4] = o[mt][1];
      *place(chunk, mt) =
          make_uint4(Half<T>::pack(low[0], low[1]), Half<T>::pack(low[2], low[3]),
                     Half<T>::pack(high[0], high[1]), Half<T>::pack(high[2], high[3]));
    }
  }
  // Asks for what has been left, early: it takes as long as half a chunk.
  __device__ void ask(int chunk) {
#pragma unroll
    for (int mt = 0; mt < kMTiles; ++mt) {
      left[mt] = *place(chunk, mt);
    }
  }
  __device__ void add_left(float (&o)[kMTiles][2][4]) const {
#pragma unroll
    for (int mt = 0; mt < kMTiles; ++mt) {
      const uint32_t two[4] = {left[mt].x, left[mt].y, left[mt].z, left[mt].w};
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        const float2 other = Half<T>::unpack(two[x]);
        o[mt][x >> 1][2 * (x & 1)] += other.x;
        o[mt][x >> 1][2 * (x & 1) + 1] += other.y;
      }
    }
  }
  __device__ void store(const float (&o)[kMTiles][2][4], int chunk) const {
    const int quad = walk.b.lane >> 2, t = chunk * kTensorChunk + quad;
    T* const at = output + t * stride + 2 * (walk.b.lane & 3);
#pragma unroll
    for (int mt = 0; mt < kMTiles; ++mt) {
      uint32_t two[4];
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        two[x] =
            transposed(Half<T>::pack(o[mt][x >> 1][2 * (x & 1)], o[mt][x >> 1][2 * (x & 1) + 1]));
      }
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        if (t + 8 * n < walk.b.p.length) {
          T* const row = at + 8 * n * stride + 16 * mt;
          *reinterpret_cast<uint32_t*>(row) = two[2 * n];
          *reinterpret_cast<uint32_t*>(row + 8) = two[2 * n + 1];
        }
      }
    }
  }
};

// R^T of a chunk from V and S K, then V'^T = R^T M^T.
template <typename T, typename Walk>
__device__ void solve_update(float (&update)[2][4], const float (&read_state)[2][4],
                             const Walk& walk, uint32_t rows, int mt, const Factors (&f)[2][2],
                             const uint32_t (&m)[4]) {
  float v[2][4];
  walk.load_values(v, rows, mt);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int x = 0; x < 4; ++x) {
      const Factors& factors = f[half][x & 1];
      v[half][x] = factors.beta * v[half][x] - factors.read * read_state[half][x];
    }
  }
  uint32_t residual[4];
  fragment<T>(residual, v);
  Half<T>::multiply(update[0], residual, m[0], m[1]);
  Half<T>::multiply(update[1], residual, m[2], m[3]);
}

// S^T after a chunk from S^T before it; `keep(mt, update)` sees V'^T.
template <typename T, int D, int kDirections, typename State, typename Keep>
__device__ void advance(State& state, const Walk<T, D, kDirections>& walk, const ChunkPlace& place,
                        const Keep& keep) {
  constexpr int kMTiles = TensorBlock<T, D, kDirections>::kMTiles;
  const auto& b = walk.b;
  const int products = b.products_offset(place);
  const uint32_t rows = b.rows_address(place), triangles = b.base + products;
  float read_state[kMTiles][2][4] = {};
  uint32_t tiles[D / 16];
  walk.addresses(tiles, rows, walk.row_tiles);
  state.multiply(read_state, tiles);
  uint32_t m[4], written[kMTiles][4];
  load_matrices_transposed(m, triangles + walk.triangle_columns);
  Factors f[2][2];
  walk.load_factors(f, products);
#pragma unroll
  for (int mt = 0; mt < kMTiles; ++mt) {
    float update[2][4] = {};
    solve_update<T>(update, read_state[mt], walk, rows, mt, f, m);
    keep(mt, update);
    scaled_fragment<T>(written[mt], update, [&](int half, int x) { return f[half][x].write; });
  }
  state.scale(walk.decay(products));
  walk.addresses(tiles, rows, walk.column_tiles);
  state.add_product(written, tiles);
}

}  // namespace comba::kernels::cuda
