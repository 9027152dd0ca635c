// What the tensor-core kernels of the scan share: a block's place, the gates of a chunk, the triangles M and P.
//
// All of it lies in time order. A reversed direction has upper triangles instead of lower ones.
#pragma once

#include "kernels/cuda/tensor_matrix.cuh"

namespace comba::kernels::cuda {

constexpr int kTensorChunk = 16;  // C
// exp() of it is zero in fp32, and sums of it stay finite where log alpha is -inf.
constexpr float kLogAlphaFloor = -200.f;
constexpr float kLog2E = 1.4426950408889634f;

// What a block keeps of a chunk in shared memory: its rows, and what is made of them; byte offsets into both.
template <int D, int kDirections>
struct TensorRows {
  static constexpr int kTensor = kTensorChunk * D * 2;  // [16, D], see row_piece
  static constexpr int kKey = 0, kQuery = kTensor, kValue = 2 * kTensor;
  static constexpr int kBytes = 3 * kTensor;
};
template <int kDirections>
struct TensorProducts {
  // of each direction: gates (TriangleView), then A (fp32), then M^T and P (16 x 16 half-width, see triangle_piece)
  static constexpr int kTriangle = 0, kTriangleBytes = 1024, kP = 512;
  static constexpr int kFactors = kDirections * kTriangleBytes;  // of each direction [16] Factors
  static constexpr int kFactorBytes = 16 * 16;
  static constexpr int kDecay = kFactors + kDirections * kFactorBytes;  // exp(G) of each direction
  static constexpr int kBytes = kDecay + 16;
};

COMBA_HOST_DEVICE constexpr int tensor_chunks(int64_t length) {
  return static_cast<int>((length + kTensorChunk - 1) / kTensorChunk);
}
// With both directions in a block everything of the whole sequence is resident, and behind it lies the last chunk's
// output of the direction that begins with it. With one the chunks come in groups: the rows of two groups have a place,
// as one is walked while the next arrives.
template <int D>
constexpr int kTensorGroup = D == 32 ? 2 : 4;
template <int D, int kDirections>
constexpr int64_t tensor_shared_bytes(int64_t length) {
  using Rows = TensorRows<D, kDirections>;
  constexpr int64_t kProducts = TensorProducts<kDirections>::kBytes, kGroup = kTensorGroup<D>;
  return kDirections == 2 ? tensor_chunks(length) * (Rows::kBytes + kProducts) + Rows::kTensor
                          : kGroup * (2 * Rows::kBytes + kProducts);
}

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
  using Rows = TensorRows<D, kDirections>;
  using Products = TensorProducts<kDirections>;
  static constexpr int kWarps = D / 16 * kDirections < 8 ? D / 16 * kDirections : 8;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kDirectionWarps = kWarps / kDirections;
  static constexpr int kMTiles = D / 16 / kDirectionWarps;
  // Blocks an SM that registers are kept for.
  static constexpr int kMinBlocks = (kMTiles == 1 ? 512 : 256) / kThreads;
  static constexpr bool kResident = kDirections == 2;
  static constexpr int kGroup = kTensorGroup<D>;

  const TensorScan<T>& scan;
  const ScanParams<float>& p;
  char* memory;
  uint32_t base;  // its shared address
  int chunks, first_direction;
  int64_t batch, head;
  int warp, lane;

  __device__ TensorBlock(const TensorScan<T>& s, char* shared, int64_t block)
      : scan(s),
        p(s.params),
        memory(shared),
        base(static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
        chunks(tensor_chunks(p.length)),
        first_direction(0),
        warp(__shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0)),  // known to be uniform
        lane(threadIdx.x % 32) {
    // A grid has fewer than 2^31 blocks; divisions of 64 bits would cost more than a chunk's gates.
    auto n = static_cast<uint32_t>(scan.first + block);
    const auto heads = static_cast<uint32_t>(p.heads);
    if (kDirections == 1) {
      const uint32_t tasks = static_cast<uint32_t>(p.batch) * heads;
      first_direction = n >= tasks ? 1 : 0;
      n -= n >= tasks ? tasks : 0;
    }
    batch = n / heads;
    head = n % heads;
  }

  __device__ bool reversed(int local) const {
    return ((first_direction + local) == 1) != p.reverse;
  }
  // Where the rows of the n-th chunk of a sweep lie, and what is made of them.
  __device__ static int rows_slot(int n, int chunk) { return kResident ? chunk : n % (2 * kGroup); }
  __device__ static int products_slot(int n, int chunk) { return kResident ? chunk : n % kGroup; }
  __device__ uint32_t rows_address(int n, int chunk) const {
    return base + rows_slot(n, chunk) * Rows::kBytes;
  }
  __device__ int products_offset(int n, int chunk) const {
    return (kResident ? chunks : 2 * kGroup) * Rows::kBytes +
           products_slot(n, chunk) * Products::kBytes;
  }
  __device__ char* spare() const { return memory + chunks * (Rows::kBytes + Products::kBytes); }
  __device__ int64_t gate_index(int local, int64_t t) const {
    return (((first_direction + local) * p.batch + batch) * p.length + t) * p.heads + head;
  }
  __device__ float correction(int local) const {
    return p.d[(first_direction + local) * p.heads + head];
  }

  // Starts copying rows of a [R, B, T, H, D] tensor to `offset` of the chunks' rows: chunks first .. end - 1 of a
  // sweep that goes up or down.
  __device__ void load_rows(int offset, const void* source, const RowStrides& strides, int first,
                            int end, bool down) const {
    constexpr int kPieces = D / 8, kChunksAtOnce = kThreads / kPieces / kTensorChunk;
    static_assert(kChunksAtOnce >= 1);
    const int piece = threadIdx.x % kPieces, row = threadIdx.x / kPieces % kTensorChunk;
    const T* const rows = static_cast<const T*>(source) + first_direction * strides.direction +
                          batch * strides.batch + head * strides.head + piece * 8;
    const uint32_t to = base + offset + row_piece<D>(row, piece);
    const int length = static_cast<int>(p.length);
    for (int n = first + threadIdx.x / (kPieces * kTensorChunk); n < end; n += kChunksAtOnce) {
      const int chunk = down ? chunks - 1 - n : n, t = chunk * kTensorChunk + row;
      copy_async(to + rows_slot(n, chunk) * Rows::kBytes,
                 t < length ? rows + t * strides.time : source, t < length);
    }
  }
};

// What a token is multiplied by in the walks: c exp(e), beta, scale exp(g), exp(G - g).
struct alignas(16) Factors {
  float read, beta, query, write;
};

// What a lane knows of token i = lane & 15 (in scan order) of a chunk; logarithms to base 2.
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
  gates.g = present ? kLog2E * fmaxf(b.p.log_alpha[at], kLogAlphaFloor) : 0.f;
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

// Leaves the factors of a chunk's tokens for the walks, and g, e, c for the triangles where these will be; lanes 0-15
// the first direction, 16-31 the second.
template <typename T, int D, int kDirections>
__device__ void store_gates(const TensorBlock<T, D, kDirections>& b, const TokenGates& gates,
                            char* products) {
  using Products = TensorProducts<kDirections>;
  const int local = kDirections == 2 ? b.lane >> 4 : 0, i = b.lane & 15;
  if (b.lane >= 16 * kDirections) {
    return;
  }
  const int time = b.reversed(local) ? 15 - i : i;
  auto* const factors =
      reinterpret_cast<Factors*>(products + Products::kFactors + local * Products::kFactorBytes);
  factors[time] = {gates.c * exp2_fast(gates.e), gates.beta, b.p.scale * exp2_fast(gates.g),
                   exp2_fast(gates.end - gates.g)};
  if (i == 15) {
    reinterpret_cast<float*>(products + Products::kDecay)[local] = exp2_fast(gates.end);
  }
  char* const place = products + Products::kTriangle + local * Products::kTriangleBytes;
  reinterpret_cast<float4*>(place)[time] = make_float4(gates.g, gates.e, gates.c, 0.f);
  reinterpret_cast<float*>(place + 256)[time] = gates.g;
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

// K K^T and Q K^T of a chunk: rows 8 half + quad, columns 8 n + 2 pair + x at [n][2 half + x].
template <typename T, int D, int kDirections>
__device__ void make_gram(const TensorBlock<T, D, kDirections>& b, uint32_t chunk_rows,
                          float (&kk)[2][4], float (&qk)[2][4]) {
  using Rows = TensorRows<D, kDirections>;
  const uint32_t rows = tile_offset<D, kPairColumns>(b.lane),
                 columns = tile_offset<D, kPairRows>(b.lane);
#pragma unroll
  for (int step = 0; step < D / 16; ++step) {
    uint32_t k[4], q[4], other[4];
    load_matrices(k, chunk_rows + Rows::kKey + (rows ^ 32 * step));
    load_matrices(q, chunk_rows + Rows::kQuery + (rows ^ 32 * step));
    load_matrices(other, chunk_rows + Rows::kKey + (columns ^ 32 * step));
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      Half<T>::multiply(kk[n], k, other[2 * n], other[2 * n + 1]);
      Half<T>::multiply(qk[n], q, other[2 * n], other[2 * n + 1]);
    }
  }
}

// One triangle's gates at this lane's rows and columns, and where its elements go.
struct TriangleView {
  char* place;
  float d;
  float4 row[2];     // g, e, c
  float2 column[2];  // g

  template <typename Block>
  __device__ TriangleView(const Block& b, char* products, int local)
      : place(products + Block::Products::kTriangle + local * Block::Products::kTriangleBytes),
        d(b.correction(local)) {
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

// Phase 1 for one chunk of 16 tokens. A pair of different tokens, row i and column j, belongs to the direction that
// reaches i later: `after` (i > j) or `before` (i < j); with one direction both are the same and half the work is lost.
template <typename T, int D, int kDirections>
__device__ void make_triangles(const TensorBlock<T, D, kDirections>& b, uint32_t chunk_rows,
                               char* products) {
  const int lane = b.lane, quad = lane >> 2, pair = lane & 3;
  const bool reversed = b.reversed(0);
  const int local_after = kDirections == 2 && reversed ? 1 : 0;
  const int local_before = kDirections == 2 ? 1 - local_after : 0;
  float kk[2][4] = {}, qk[2][4] = {};
  make_gram(b, chunk_rows, kk, qk);
  const TriangleView after(b, products, local_after), before(b, products, local_before);
  __syncwarp();

  // Where A's rows lie in scan order, see invert_column.
  float* a_after = reinterpret_cast<float*>(after.place) + 16 * quad + 2 * pair;
  float* a_before = reinterpret_cast<float*>(before.place) + 247 - 16 * quad - 2 * pair;
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
        const float g_j = x == 0 ? columns.x : columns.y, key = kk[n][r];
        const float p =
            b.p.scale * (qk[n][r] - (late ? after.d : before.d) * key) * exp2_fast(row.x - g_j);
        const float on_diagonal = b.p.scale * (qk[n][r] - after.d * key);
        p_after[n][r] = late ? p : i == j ? on_diagonal : 0.f;
        p_before[n][r] = late ? 0.f : p;
        const bool scan_order = kDirections == 2 ? late : !reversed;
        float* const target = scan_order ? a_after + 128 * half + 8 * (n ^ local_after) + x
                                         : a_before - 128 * half + 8 * ((1 - n) ^ local_before) - x;
        *target = row.z * exp2_fast(row.y - g_j) * key;
      }
    }
  }

  __syncwarp();
  float m[16];
  const int own = kDirections == 2 ? lane >> 4 : 0;
  char* const place = own == local_after ? after.place : before.place;
  invert_column(m, reinterpret_cast<const float4*>(place), lane & 15, 2 * own);
  __syncwarp();
  if (lane < 16 * kDirections) {
    store_column<T>(place, m, lane & 15, b.reversed(own));
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const uint32_t at =
          TensorProducts<kDirections>::kP + triangle_piece(quad + 8 * half, n) + 4 * pair;
      const uint32_t first = Half<T>::pack(p_after[n][2 * half], p_after[n][2 * half + 1]);
      const uint32_t second = Half<T>::pack(p_before[n][2 * half], p_before[n][2 * half + 1]);
      if (kDirections == 2 || !reversed) {
        *reinterpret_cast<uint32_t*>(after.place + at) = first;
      }
      if (kDirections == 2 || reversed) {
        *reinterpret_cast<uint32_t*>(before.place + at) = second;
      }
    }
  }
}

// Rows that lie in the place of V.
struct ValueRows {
  const void* data;
  const RowStrides& strides;
};

// Visits every chunk in scan order, or against it: `walk(first, end)` for chunks first .. end - 1 of the sweep, whose
// rows and products are there. `again`: not the block's first sweep.
template <bool kAgain, typename T, int D, int kDirections, typename Walk>
__device__ void sweep(const TensorBlock<T, D, kDirections>& b, bool against,
                      const ValueRows& values, const Walk& walk) {
  using Block = TensorBlock<T, D, kDirections>;
  using Rows = TensorRows<D, kDirections>;
  constexpr bool kMake = !Block::kResident || !kAgain;  // else the products are still there
  const bool down = !Block::kResident && b.reversed(0) != against;
  const auto load = [&](int first, int end) {
    if (kMake) {
      b.load_rows(Rows::kKey, b.p.k, b.p.k_strides, first, end, down);
      b.load_rows(Rows::kQuery, b.p.q, b.p.q_strides, first, end, down);
    }
    b.load_rows(Rows::kValue, values.data, values.strides, first, end, down);
    asm volatile("cp.async.commit_group;");
  };
  const auto chunk_of = [&](int n) { return down ? b.chunks - 1 - n : n; };
  if (kAgain) {
    __syncthreads();
  }
  const int size = Block::kResident ? b.chunks : Block::kGroup;
  load(0, min(size, b.chunks));
  for (int first = 0; first < b.chunks; first += size) {
    const int end = min(first + size, b.chunks), own = first + b.warp;
    // A streaming block's warp makes one chunk of a group at most. Its gates are asked for before the rows are waited
    // for, and stored once no warp needs those of the last group.
    TokenGates gates = {};
    if (kMake && !Block::kResident && own < end) {
      gates = token_gates(b, chunk_of(own), 0);
    }
    if (kMake && Block::kResident) {
      for (int n = own; n < end; n += b.kWarps) {
        store_gates(b, token_gates(b, n, b.lane >> 4), b.memory + b.products_offset(n, n));
      }
    }
    asm volatile("cp.async.wait_group 0;");
    __syncthreads();
    if (end < b.chunks) {
      load(end, min(end + size, b.chunks));
    }
    for (int n = own; kMake && n < end; n += b.kWarps) {
      const int chunk = chunk_of(n);
      char* const products = b.memory + b.products_offset(n, chunk);
      if (!Block::kResident) {
        store_gates(b, gates, products);
        __syncwarp();
      }
      make_triangles(b, b.rows_address(n, chunk), products);
    }
    __syncthreads();
    walk(first, end);
  }
}

}  // namespace comba::kernels::cuda
