// What the tensor-core kernels of the scan share: a block's roles and place, its shared memory, the gates of a chunk.
//
// All of it lies in time order. A reversed direction has upper triangles instead of lower ones.
#pragma once

#include "kernels/cuda/warpgroup_matrix.cuh"

namespace comba::kernels::cuda {

constexpr int kTensorChunk = 16;  // C
constexpr int kTensorSpan = 32;   // tokens that the backward pass takes at a time, two chunks
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

  // Of a direction of the block.
  static COMBA_HOST_DEVICE constexpr int triangle(int local) {
    return kTriangle + local * kTriangleBytes;
  }
  static COMBA_HOST_DEVICE constexpr int factors(int local) {
    return kFactors + local * kFactorBytes;
  }
  static COMBA_HOST_DEVICE constexpr int decay(int local) { return kDecay + 4 * local; }
};

COMBA_HOST_DEVICE constexpr int tensor_chunks(int64_t length) {
  return static_cast<int>((length + kTensorChunk - 1) / kTensorChunk);
}
// With both directions in a block everything of the whole sequence is resident, and behind it lie outputs of the last chunk
// of this task and the next, of the direction that begins with it, and barriers (tensor_sweep.cuh). With one the chunks come
// in groups: the rows of two groups have a place, as one is walked while the next arrives.
template <int D>
constexpr int kTensorGroup = D == 32 ? 2 : 4;
// Chunks of every segment in time order but the last, which may have fewer; even, as spans are not cut.
COMBA_HOST_DEVICE constexpr int segment_chunks(int chunks, int segments) {
  return 2 * (((chunks + 1) / 2 + segments - 1) / segments);
}
// For every chunk of a task and the next one three barriers: of rows, of products, of places.
constexpr int kMaxResidentChunks = 40;
template <int D>
constexpr int64_t kChunkBytes = TensorRows<D, 2>::kBytes + TensorProducts<2>::kBytes;
template <int D>
constexpr int64_t resident_shared_bytes(int chunks, int slots) {
  return slots * kChunkBytes<D> + 2 * TensorRows<D, 2>::kTensor + 6 * 8 * chunks;
}
// Blocks of both directions an SM.
template <int D>
constexpr int kResidentBlocks = D == 32 ? 2 : 1;
// Places of chunks in a block of both directions: a sequence's, and as many of the next one's as fit. 0: too long.
template <int D>
constexpr int tensor_slots(int64_t length, int64_t limit) {
  const int chunks = tensor_chunks(length);
  const auto more = (limit - resident_shared_bytes<D>(chunks, chunks)) / kChunkBytes<D>;
  return chunks > kMaxResidentChunks || limit < resident_shared_bytes<D>(chunks, chunks)
             ? 0
             : chunks + static_cast<int>(more < chunks ? more : chunks);
}
// Of a block of one direction.
template <int D>
COMBA_HOST_DEVICE constexpr int64_t tensor_shared_bytes() {
  return kTensorGroup<D> * (2 * TensorRows<D, 1>::kBytes + TensorProducts<1>::kBytes);
}

template <typename T>
struct TensorScan {
  ScanParams<float> params;
  T* o = nullptr;       // [B, T, H, D] (merged) or [R, B, T, H, D], contiguous
  bool merged = false;  // both directions add up in o
  int slots = 0;        // tensor_slots(), where a block serves both directions
  bool mapped = false;  // rows are copied by the tensor memory accelerator
  int64_t first = 0;    // block 0 serves this (batch, head) or, with rows of its own, this task
  // With rows of its own a sequence may be cut (tensor_segments.cuh): blocks of a segment for every task, then those of
  // the next one.
  int segments = 1;
  const float* states = nullptr;  // [tasks, segments - 1, D, D] S^T after each segment but the last
  // [tasks, chunks, 2, 32] M^T and P as they lie in shared memory, for the kernels that share them
  uint4* triangles = nullptr;
};
// The n-th of a task's matrices that lie like TensorScan::states; null is none, which is zero.
template <int D, typename T>
__device__ const float* segment_matrix(const TensorScan<T>& scan, const float* matrices,
                                       uint32_t task, int n) {
  return n < 0 ? nullptr : matrices + (int64_t{task} * (scan.segments - 1) + n) * D * D;
}

// The places of a chunk's rows and products.
struct ChunkPlace {
  int rows, products;
};

// Rows in global memory and where they go in a chunk's; the time stride fits in 32 bits.
struct TensorSource {
  int place;
  const void* data;
  const RowStrides& strides;
};

// One block's view: its place in the tensors and in shared memory.
template <typename T, int D, int kDirections>
struct TensorBlock {
  using Rows = TensorRows<D, kDirections>;
  using Products = TensorProducts<kDirections>;
  static constexpr int kTogether = kDirections;
  // With both directions in a block some warps walk, 16 kMTiles rows of S^T each, others make ready what these need, and
  // one may copy rows (tensor_map.h). With one direction all warps do everything.
  static constexpr bool kResident = kDirections == 2;
  static constexpr int kMTiles = kResident && D > 64 ? 2 : 1;
  // Four warps in step, with one tile of 16 rows of S^T each: their products are a warpgroup's.
  static constexpr bool kWide = kWarpgroupProducts && D == 64 && kMTiles == 1;
  static constexpr int kDirectionWarps = D / 16 / kMTiles;
  static constexpr int kWalkers = kDirectionWarps * kDirections;
  static constexpr int kCopiers = kResident && D <= 64 ? 1 : 0;
  static constexpr int kMakers = !kResident ? 0 : D == 32 ? 3 : D == 64 ? 7 : 4;
  static constexpr int kWarps = kWalkers + kMakers + kCopiers, kThreads = 32 * kWarps;
  // Warps that share the copies of chunks' rows by threads.
  static constexpr int kLoaders = kResident ? 1 : kWarps;
  static constexpr int kGroup = kTensorGroup<D>;
  // Blocks an SM that registers are kept for.
  static constexpr int kMinBlocks = kResident ? kResidentBlocks<D> : 512 / kThreads;

  const TensorScan<T>& scan;
  const ScanParams<float>& p;
  char* memory;
  uint32_t base;  // its shared address
  int chunks, first_direction;
  int low, high;  // the block's chunks in time order
  int turn;       // tasks that the block has served before
  int64_t batch, head;
  int warp, lane;

  // `n`: (batch, head) or, with rows of its own, task. `part`: segment in scan order or, for both directions, turn.
  __device__ TensorBlock(const TensorScan<T>& s, char* shared, uint32_t n, int part = 0)
      : scan(s),
        p(s.params),
        memory(shared),
        base(static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
        chunks(tensor_chunks(p.length)),
        first_direction(0),
        low(0),
        high(chunks),
        turn(kResident ? part : 0),
        warp(__shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0)),  // known to be uniform
        lane(threadIdx.x % 32) {
    const auto heads = static_cast<uint32_t>(p.heads);
    if (kDirections == 1) {
      const uint32_t tasks = static_cast<uint32_t>(p.batch) * heads;
      first_direction = n >= tasks ? 1 : 0;
      n -= n >= tasks ? tasks : 0;
      const int size = segment_chunks(chunks, s.segments);
      low = size * (reversed(0) ? s.segments - 1 - part : part);
      high = min(low + size, chunks);
    }
    batch = n / heads;
    head = n % heads;
  }

  __device__ bool reversed(int local) const {
    return ((first_direction + local) == 1) != p.reverse;
  }
  // The n-th chunk that is made ready: where both directions walk, from both ends towards the middle.
  __device__ int chunk_of(int n, bool down) const {
    return kResident ? (n % 2 == 0 ? n / 2 : chunks - 1 - n / 2) : down ? chunks - 1 - n : n;
  }
  // The block's chunks as a sweep counts them.
  __device__ int begin(bool down) const { return down ? chunks - high : low; }
  __device__ int end(bool down) const { return down ? chunks - low : high; }
  // Where the rows of that chunk lie, and what is made of them. With both directions every other task has its chunks the other
  // way round: its first ones lie where the task before had none, then where its middle ones were, which both walks are done
  // with first.
  __device__ int resident_slot(int n) const { return turn % 2 == 0 ? n : scan.slots - 1 - n; }
  // Of the n-th chunk that is made ready.
  __device__ ChunkPlace place(int n, int chunk) const {
    const int slot = kResident ? resident_slot(n) : 0;
    return {kResident ? slot : n % (2 * kGroup), kResident ? slot : n % kGroup};
  }
  __device__ uint32_t rows_address(const ChunkPlace& at) const {
    return base + at.rows * Rows::kBytes;
  }
  __device__ int products_offset(const ChunkPlace& at) const {
    return (kResident ? scan.slots : 2 * kGroup) * Rows::kBytes + at.products * Products::kBytes;
  }
  // Of the outputs of the last chunk.
  __device__ char* spare() const {
    return memory + scan.slots * (Rows::kBytes + Products::kBytes) + turn % 2 * Rows::kTensor;
  }
  __device__ int64_t gate_index(int local, int64_t t) const {
    return (((first_direction + local) * p.batch + batch) * p.length + t) * p.heads + head;
  }
  // This lane's part of a chunk's M^T where it is kept; that of P is 32 behind.
  __device__ uint4* kept_triangles(int chunk) const {
    const int64_t task = (first_direction * p.batch + batch) * p.heads + head - scan.first;
    return scan.triangles + (task * chunks + chunk) * 64 + lane;
  }
  __device__ float correction(int local) const {
    return p.d[(first_direction + local) * p.heads + head];
  }

  // Starts copying rows of [R, B, T, H, D] tensors (null: zeros) into the places kKey, kQuery, .. of the chunks'
  // rows: chunks first .. last - 1 of a sweep that goes up or down.
  template <int kTensors>
  __device__ void load_rows(const TensorSource (&sources)[kTensors], int first, int last,
                            bool down) const {
    constexpr int kPieces = D / 8, kRowsAtOnce = 32 * kLoaders / kPieces;
    constexpr int kChunksAtOnce = kRowsAtOnce > 16 ? kRowsAtOnce / 16 : 1;
    const int thread = kResident ? lane : static_cast<int>(threadIdx.x);
    const int piece = thread % kPieces, first_row = thread / kPieces % 16;
    const T* rows[kTensors];
    int stride[kTensors], length[kTensors];
#pragma unroll
    for (int i = 0; i < kTensors; ++i) {
      const RowStrides& s = sources[i].strides;
      rows[i] = static_cast<const T*>(sources[i].data) + first_direction * s.direction +
                batch * s.batch + head * s.head + piece * 8;
      stride[i] = static_cast<int>(s.time);
      length[i] = sources[i].data != nullptr ? static_cast<int>(p.length) : 0;
    }
    const int ahead =
        kChunksAtOnce > 1 ? thread / (kPieces * 16) : 0;  // else n is known to be uniform
    for (int n = first + ahead; n < last; n += kChunksAtOnce) {
      const int chunk = chunk_of(n, down);
      const uint32_t slot = rows_address(place(n, chunk));
#pragma unroll 1
      for (int more = 0; more < 16; more += kRowsAtOnce) {
        const uint32_t to = slot + row_piece<D>(first_row + more, piece);
        const int t = chunk * kTensorChunk + first_row + more;
#pragma unroll
        for (int i = 0; i < kTensors; ++i) {
          const bool present = t < length[i];
          copy_async(to + sources[i].place,
                     rows[i] + static_cast<int64_t>(present ? t : 0) * stride[i], present);
        }
      }
    }
  }
};

// What a token is multiplied by in the walks: c exp(e), beta, scale exp(g), exp(G - g).
struct alignas(16) Factors {
  float read, beta, query, write;
};

// What a lane knows of token i = lane & 15 (in scan order) of a chunk, or of token i = lane of a span; logarithms to
// base 2.
struct TokenGates {
  float g, e, c, beta;
  float end;  // G, the same in all lanes of the token's chunk or span
};

// As they come from memory.
struct RawGates {
  float log_alpha, c, beta;
};
template <int kTokens = kTensorChunk, typename Block>
__device__ RawGates load_gates(const Block& b, int chunk, int local) {
  const int i = b.lane % kTokens;
  const int64_t t = int64_t{chunk} * kTokens + (b.reversed(local) ? kTokens - 1 - i : i);
  const bool present = chunk >= 0 && t < b.p.length;
  const int64_t at = present ? b.gate_index(local, t) : 0;
  return {present ? b.p.log_alpha[at] : 0.f, present ? b.p.c[at] : 0.f,
          present ? b.p.beta[at] : 0.f};
}
template <int kTokens = kTensorChunk, typename Block>
__device__ TokenGates sum_gates(const Block& b, const RawGates& raw) {
  const int i = b.lane % kTokens;
  TokenGates gates;
  gates.g = kLog2E * fmaxf(raw.log_alpha, kLogAlphaFloor);
  gates.c = raw.c;
  gates.beta = raw.beta;
#pragma unroll
  for (int step = 1; step < kTokens; step *= 2) {
    const float before = __shfl_up_sync(~0u, gates.g, step, kTokens);
    gates.g += i >= step ? before : 0.f;
  }
  const float before = __shfl_up_sync(~0u, gates.g, 1, kTokens);
  gates.e = b.p.decayed_feedback ? gates.g : (i > 0 ? before : 0.f);
  gates.end = __shfl_sync(~0u, gates.g, kTokens - 1, kTokens);
  return gates;
}

// Leaves the factors of a chunk's tokens for the walks, and g, e, c for the triangles where these will be; lanes 0-15
// the first direction, 16-31 the second.
template <typename Block>
__device__ void store_gates(const Block& b, const TokenGates& gates, char* products) {
  using Products = typename Block::Products;
  const int local = Block::kTogether == 2 ? b.lane >> 4 : 0, i = b.lane & 15;
  if (b.lane >= 16 * Block::kTogether) {
    return;
  }
  const int time = b.reversed(local) ? 15 - i : i;
  auto* const factors = reinterpret_cast<Factors*>(products + Products::factors(local));
  factors[time] = {gates.c * exp2_fast(gates.e), gates.beta, b.p.scale * exp2_fast(gates.g),
                   exp2_fast(gates.end - gates.g)};
  if (i == 15) {
    *reinterpret_cast<float*>(products + Products::decay(local)) = exp2_fast(gates.end);
  }
  char* const place = products + Products::triangle(local);
  reinterpret_cast<float4*>(place)[time] = make_float4(gates.g, gates.e, gates.c, 0.f);
  reinterpret_cast<float*>(place + 256)[time] = gates.g;
}

}  // namespace comba::kernels::cuda
