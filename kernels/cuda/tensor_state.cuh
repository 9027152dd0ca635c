// The walk over the chunks: a warp's rows of S^T (or dS^T) in its accumulators.
//
// No product of the walk needs another warp's rows, so its warps never wait for each other.
#pragma once

#include "kernels/cuda/tensor_sweep.cuh"

namespace comba::kernels::cuda {

// One warp's rows of S^T or dS^T, and where its fragments go.
template <typename T, int D, int kDirections>
struct WarpState {
  static constexpr int kMTiles = TensorBlock<T, D, kDirections>::kMTiles;
  static constexpr bool kWide = TensorBlock<T, D, kDirections>::kWide;
  float value[kMTiles][D / 8][4] = {};

  // Columns 16 step .. + 15 as an operand a.
  __device__ void pack(uint32_t (&a)[4], int mt, int step) const {
    const float(&low)[4] = value[mt][2 * step], (&high)[4] = value[mt][2 * step + 1];
    a[0] = Half<T>::pack(low[0], low[1]);
    a[1] = Half<T>::pack(low[2], low[3]);
    a[2] = Half<T>::pack(high[0], high[1]);
    a[3] = Half<T>::pack(high[2], high[3]);
  }

  __device__ void pack_all(uint32_t (&a)[D / 16][4]) const {
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      pack(a[step], 0, step);
    }
  }

  // sum = value rows^T of 16 rows at a shared address, and `other` the same of those behind them. `tiles`: this lane's
  // offsets (kPairRows). The sums are there after finish().
  __device__ void begin_read(float (&sum)[kMTiles][2][4], float (&other)[kMTiles][2][4],
                             uint32_t rows, const uint32_t (&tiles)[D / 16]) const {
    if constexpr (kWide) {
      uint32_t a[D / 16][4];
      pack_all(a);
      begin_products();
#pragma unroll
      for (int step = 0; step < D / 16; ++step) {
        WarpgroupProduct<T>::by_rows(sum[0], other[0], a[step], matrix_descriptor(rows, step),
                                     step > 0);
      }
      commit_products();
    } else {
      begin_read(sum, rows, tiles);
      begin_read(other, rows + kTensorChunk * D * 2, tiles);
    }
  }
  __device__ void begin_read(float (&sum)[kMTiles][2][4], uint32_t rows,
                             const uint32_t (&tiles)[D / 16]) const {
    if constexpr (kWide) {
      uint32_t a[D / 16][4];
      pack_all(a);
      begin_products();
#pragma unroll
      for (int step = 0; step < D / 16; ++step) {
        WarpgroupProduct<T>::by_rows(sum[0], a[step], matrix_descriptor(rows, step), step > 0);
      }
      commit_products();
    } else {
#pragma unroll
      for (int step = 0; step < D / 16; ++step) {
        uint32_t b[4];
        load_matrices(b, rows + tiles[step]);
#pragma unroll
        for (int mt = 0; mt < kMTiles; ++mt) {
          uint32_t a[4];
          pack(a, mt, step);
          Half<T>::multiply(sum[mt][0], a, b[0], b[1]);
          Half<T>::multiply(sum[mt][1], a, b[2], b[3]);
        }
      }
    }
  }
  // begin_read() of two states by the same rows.
  __device__ static void begin_reads(float (&sum)[2][kMTiles][2][4], const WarpState& first,
                                     const WarpState& second, uint32_t rows,
                                     const uint32_t (&tiles)[D / 16]) {
    if constexpr (kWide) {
      uint32_t a[2][D / 16][4];
      first.pack_all(a[0]);
      second.pack_all(a[1]);
      begin_products();
#pragma unroll
      for (int which = 0; which < 2; ++which) {
#pragma unroll
        for (int step = 0; step < D / 16; ++step) {
          WarpgroupProduct<T>::by_rows(sum[which][0], a[which][step], matrix_descriptor(rows, step),
                                       step > 0);
        }
      }
      commit_products();
    } else {
      first.begin_read(sum[0], rows, tiles);
      second.begin_read(sum[1], rows, tiles);
    }
  }
  __device__ static void finish(float (&sum)[kMTiles][2][4]) {
    if constexpr (kWide) {
      wait_products();
      hold(sum[0]);
    }
  }
  __device__ static void finish(float (&sum)[kMTiles][2][4], float (&other)[kMTiles][2][4]) {
    finish(sum);
    if constexpr (kWide) {
      hold(other[0]);
    }
  }
  // value += a rows; offsets of kPairColumns. Done after finish_add().
  __device__ void begin_add(const uint32_t (&a)[kMTiles][4], uint32_t rows,
                            const uint32_t (&tiles)[D / 16]) {
    if constexpr (kWide) {
      begin_products();
      WarpgroupProduct<T>::by_columns(value[0], a[0], matrix_descriptor(rows));
      commit_products();
    } else {
#pragma unroll
      for (int step = 0; step < D / 16; ++step) {
        uint32_t b[4];
        load_matrices_transposed(b, rows + tiles[step]);
#pragma unroll
        for (int mt = 0; mt < kMTiles; ++mt) {
          Half<T>::multiply(value[mt][2 * step], a[mt], b[0], b[1]);
          Half<T>::multiply(value[mt][2 * step + 1], a[mt], b[2], b[3]);
        }
      }
    }
  }
  __device__ void finish_add() {
    if constexpr (kWide) {
      wait_products();
      hold(value[0]);
    }
  }
  // While what begin_read() has begun is on its way.
  __device__ void scale(float factor) {
    if constexpr (kWide) {
      hold(value[0]);
    }
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
  // From and to a matrix [D, D] in fp32; null is zero.
  __device__ void read(const float* matrix, int first_row, int lane) {
    if (matrix != nullptr) {
      visit_pairs(first_row, lane, [&](int row, int column, float& x, float& y) {
        const float2 two = *reinterpret_cast<const float2*>(matrix + row * D + column);
        x = two.x;
        y = two.y;
      });
    }
  }
  __device__ void write(float* matrix, int first_row, int lane) {
    visit_pairs(first_row, lane, [&](int row, int column, float& x, float& y) {
      *reinterpret_cast<float2*>(matrix + row * D + column) = make_float2(x, y);
    });
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
    const int triangle = Products::triangle(local);
    triangle_rows =
        triangle + triangle_piece(tile_row<kPairRows>(lane), tile_piece<kPairRows>(lane));
    triangle_columns =
        triangle + triangle_piece(tile_row<kPairColumns>(lane), tile_piece<kPairColumns>(lane));
    factors = Products::factors(local) + 32 * (lane & 3);
  }

  // This warp's rows of the m-tile of V^T (or of what has taken its place), and these as accumulators.
  __device__ void load_values(uint32_t (&v)[4], uint32_t rows, int mt) const {
    load_matrices_transposed(v, rows + Rows::kValue + (value_tile ^ 32 * mt));
  }
  __device__ static void unpack_values(float (&x)[2][4], const uint32_t (&v)[4]) {
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
    return *reinterpret_cast<const float*>(b.memory + products + Products::decay(local));
  }
};

// O^T [Dv rows, 16 tokens] of a warp on its way to the output, chunk after chunk. Where both directions add up there, the
// first leaves its accumulators as they are, 16 bytes a lane, in the place of the rows (of the last chunk, whose rows may
// be fewer, in shared memory): the second has the same layout and adds to them.
template <typename T, int D, int kDirections>
struct OutputTile {
  static constexpr int kMTiles = TensorBlock<T, D, kDirections>::kMTiles;
  int64_t stride;  // elements from token to token
  T* rows;         // of the chunk: this lane's pair of columns of its token
  T* left_rows;    // of the chunk: this lane's place of what is left
  uint4* spare;    // that of the last chunk
  int token;       // of the lane in its chunk
  int chunk, last, length;
  uint4 left[kMTiles];

  // `last_left`: the place of what is left of the last chunk.
  __device__ OutputTile(const Walk<T, D, kDirections>& walk, int first_chunk, char* last_left)
      : stride(walk.b.p.heads * D),
        spare(reinterpret_cast<uint4*>(last_left) + walk.first_row / 16 * 32 + walk.b.lane),
        token(walk.b.lane >> 2),
        chunk(first_chunk),
        last(walk.b.chunks - 1),
        length(static_cast<int>(walk.b.p.length)) {
    const auto& b = walk.b;
    const int direction = b.scan.merged ? 0 : b.first_direction + walk.local;
    T* const output =
        b.scan.o +
        (((direction * b.p.batch + b.batch) * b.p.length + int64_t{chunk} * kTensorChunk) *
             b.p.heads +
         b.head) *
            D +
        walk.first_row;
    rows = output + token * stride + 2 * (b.lane & 3);
    left_rows = output + (b.lane >> 1) * stride + 8 * (b.lane & 1);
  }
  __device__ void move_on(bool down) {
    const int64_t step = down ? -kTensorChunk * stride : kTensorChunk * stride;
    rows += step;
    left_rows += step;
    chunk += down ? -1 : 1;
  }
  __device__ uint4* place(int mt) const {
    uint4* const own = reinterpret_cast<uint4*>(left_rows + 16 * mt);
    return chunk == last ? spare + 32 * mt : own;
  }
  __device__ void leave(const float (&o)[kMTiles][2][4]) const {
#pragma unroll
    for (int mt = 0; mt < kMTiles; ++mt) {
      const float(&low)[4] = o[mt][0], (&high)[4] = o[mt][1];
      *place(mt) = make_uint4(Half<T>::pack(low[0], low[1]), Half<T>::pack(low[2], low[3]),
                              Half<T>::pack(high[0], high[1]), Half<T>::pack(high[2], high[3]));
    }
  }
  // Asks for what has been left, early: it takes as long as half a chunk.
  __device__ void ask() {
#pragma unroll
    for (int mt = 0; mt < kMTiles; ++mt) {
      left[mt] = *place(mt);
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
  __device__ void store(const float (&o)[kMTiles][2][4]) const {
    const int t = chunk * kTensorChunk + token;
#pragma unroll
    for (int mt = 0; mt < kMTiles; ++mt) {
#pragma unroll
      for (int n = 0; n < 2; ++n) {  // the same tokens of both halves of the rows
        const uint32_t low = transposed(Half<T>::pack(o[mt][n][0], o[mt][n][1]));
        const uint32_t high = transposed(Half<T>::pack(o[mt][n][2], o[mt][n][3]));
        T* const row = rows + 8 * n * stride + 16 * mt;
        if (t + 8 * n < length) {
          *reinterpret_cast<uint32_t*>(row) = low;
          *reinterpret_cast<uint32_t*>(row + 8) = high;
        }
      }
    }
  }
};

// R^T of a chunk from V and S K, then V'^T = R^T M^T.
template <typename T, typename Walk>
__device__ void solve_update(float (&update)[2][4], const float (&read_state)[2][4],
                             const uint32_t (&values)[4], const Factors (&f)[2][2],
                             const uint32_t (&m)[4]) {
  float v[2][4];
  Walk::unpack_values(v, values);
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
  uint32_t m[4], v[kMTiles][4], written[kMTiles][4];
  Factors f[2][2];
  const auto load = [&] {
    load_matrices_transposed(m, triangles + walk.triangle_columns);
    walk.load_factors(f, products);
  };
  if constexpr (State::kWide) {
    load();
    walk.load_values(v[0], rows, 0);
  }
  float read_state[kMTiles][2][4] = {}, update[kMTiles][2][4] = {};
  state.begin_read(read_state, rows, walk.row_tiles);
  if constexpr (!State::kWide) {
    load();
  }
  state.scale(walk.decay(products));
  state.finish(read_state);
#pragma unroll
  for (int mt = 0; mt < kMTiles; ++mt) {
    if constexpr (!State::kWide) {
      walk.load_values(v[mt], rows, mt);
    }
    solve_update<T, Walk<T, D, kDirections>>(update[mt], read_state[mt], v[mt], f, m);
    scaled_fragment<T>(written[mt], update[mt], [&](int half, int x) { return f[half][x].write; });
  }
  state.begin_add(written, rows, walk.column_tiles);
#pragma unroll
  for (int mt = 0; mt < kMTiles; ++mt) {
    keep(mt, update[mt]);
  }
  state.finish_add();
}

}  // namespace comba::kernels::cuda
