// The scan of fp32 inputs on tensor cores: every product as three of tf32, x = high + low with 11 + 11 bits, which leaves an
// error of about 2^-21. Formulas, chunks and substitution as in tensor_forward.cuh; one direction a block, its rows in scan
// order, so that all triangles are lower ones.
//
// Fragments of m16n8k8 (PTX ISA), with quad = lane / 4 and pair = lane % 4: a holds k = pair, pair + 4 and so does b. Both
// may name them otherwise: k = 2 pair, 2 pair + 1 makes an accumulator an operand a as it is.
//
// Shared memory: D = 64: 61,984 bytes, three blocks an SM on sm_90.
#pragma once

#include "kernels/cuda/tensor_triangles.cuh"

namespace comba::kernels::cuda {

// Column j = lane & 15 of (I + A)^-1 for the triangle of this half of the warp; A in rows of kRow groups of four floats,
// the first four of which are exchanged by `exchange`.
template <int kRow>
__device__ inline void invert_row_by_row(float (&m)[16], const float4* a, int j, int exchange) {
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    float sum = i == j ? 1.f : 0.f;
#pragma unroll
    for (int group = 0; group * 4 < i; ++group) {
      const float4 x = a[i * kRow + (group ^ exchange)];
      sum -= x.x * m[group * 4];
      sum -= group * 4 + 1 < i ? x.y * m[group * 4 + 1] : 0.f;
      sum -= group * 4 + 2 < i ? x.z * m[group * 4 + 2] : 0.f;
      sum -= group * 4 + 3 < i ? x.w * m[group * 4 + 3] : 0.f;
    }
    m[i] = sum;
  }
}

// K K^T and Q K^T of a chunk: rows 8 half + quad, columns 8 n + 2 pair + x at [n][2 half + x].

template <int D>
struct FloatMemory {
  static constexpr int kGroup = 2;  // chunks that are loaded, made and walked together
  static constexpr int kStride = D + 8,
                       kSide = 24;  // of rows and triangles, against bank conflicts
  struct Rows {
    float key[kTensorChunk][kStride], query[kTensorChunk][kStride], value[kTensorChunk][kStride];
  };
  struct Products {
    float m[kTensorChunk][kSide], p[kTensorChunk][kSide];
    Factors factors[kTensorChunk];
    float decay[4];
  };
  Rows rows[2 * kGroup];
  Products products[kGroup];
};

// An operand as two of tf32.
template <int N>
struct Split {
  uint32_t high[N], low[N];

  __device__ void set(int i, float x) {
    high[i] = __float_as_uint(x) & 0xffffe000u;
    low[i] = __float_as_uint(x - __uint_as_float(high[i]));
  }
};
__device__ inline Split<4> split_accumulator(const float (&x)[4]) {
  Split<4> a;
  a.set(0, x[0]);
  a.set(1, x[2]);
  a.set(2, x[1]);
  a.set(3, x[3]);
  return a;
}
__device__ inline Split<2> split_pair(float x, float y) {
  Split<2> b;
  b.set(0, x);
  b.set(1, y);
  return b;
}
__device__ inline Split<2> split_pair(const float* at) {
  const float2 two = *reinterpret_cast<const float2*>(at);
  return split_pair(two.x, two.y);
}

// c [16, 8] += a [16, 8] b [8, 8]
__device__ inline void multiply(float (&c)[4], const Split<4>& a, const Split<2>& b) {
  multiply_tf32(c, a.low, b.high);
  multiply_tf32(c, a.high, b.low);
  multiply_tf32(c, a.high, b.high);
}

template <int D>
struct FloatBlock {
  using Memory = FloatMemory<D>;
  using Rows = typename Memory::Rows;
  using Products = typename Memory::Products;
  static constexpr int kWarps = D / 16, kThreads = 32 * kWarps,
                       kMinBlocks = D == 128 ? 1 : 12 / kWarps;
  const ScanParams<float>& p;
  Memory& memory;
  ScanTask task;
  float* o;  // [R, B, T, H, D] contiguous
  int chunks, warp, lane, quad, pair;

  __device__ FloatBlock(const ScanParams<float>& params, float* out, Memory& shared)
      : p(params),
        memory(shared),
        task(params, blockIdx.x),
        o(out),
        chunks(tensor_chunks(params.length)),
        warp(threadIdx.x / 32),
        lane(threadIdx.x % 32),
        quad(lane >> 2),
        pair(lane & 3) {}

  __device__ Rows& rows(int chunk) const { return memory.rows[chunk % (2 * Memory::kGroup)]; }
  __device__ Products& products(int chunk) const { return memory.products[chunk % Memory::kGroup]; }

  // Starts copying the rows of a group of chunks.
  __device__ void load(int first) const {
    constexpr int kPieces = D / 4, kRowsAtOnce = kThreads / kPieces;
    const int piece = threadIdx.x % kPieces * 4;
    const int end = min(first + Memory::kGroup, chunks) * kTensorChunk;
    for (int s = first * kTensorChunk + threadIdx.x / kPieces; s < end; s += kRowsAtOnce) {
      Rows& to = rows(s / kTensorChunk);
      const int row = s % kTensorChunk;
      const bool present = s < p.length;
      const int64_t at = present ? s : 0;
      const auto copy = [&](float* target, const void* source, const RowStrides& strides) {
        copy_async(static_cast<uint32_t>(__cvta_generic_to_shared(target)),
                   static_cast<const float*>(source) + task.row(strides, at) + piece, present);
      };
      copy(&to.key[row][piece], p.k, p.k_strides);
      copy(&to.query[row][piece], p.q, p.q_strides);
      copy(&to.value[row][piece], p.v, p.v_strides);
    }
    asm volatile("cp.async.commit_group;");
  }

  // Of token lane & 15. Sums of log alpha are in fp64: differences of large ones must be as exact as small ones.
  struct Gates {
    double g, e, end;
    float c, beta;
  };
  __device__ Gates gates(int chunk) const {
    const int i = lane & 15;
    const int64_t s = int64_t{chunk} * kTensorChunk + i;
    const bool present = s < p.length;
    const int64_t token =
        (task.direction * p.batch + task.batch) * p.length + task.time(present ? s : 0);
    const int64_t at = token * p.heads + task.head;
    const double log_alpha =
        present ? fmaxf(p.log_alpha[at], kLogAlphaFloor) * 1.4426950408889634 : 0.;
    double sum = log_alpha;
#pragma unroll
    for (int step = 1; step < 16; step *= 2) {
      const double before = __shfl_up_sync(~0u, sum, step, 16);
      sum += i >= step ? before : 0.;
    }
    return {sum, p.decayed_feedback ? sum : sum - log_alpha, __shfl_sync(~0u, sum, 15, 16),
            present ? p.c[at] : 0.f, present ? p.beta[at] : 0.f};
  }
  __device__ static float decay(double log2_alpha) {
    return exp2_fast(static_cast<float>(log2_alpha));
  }

  // Rows quad and quad + 8 of columns 8 step .. + 7 as an operand a.
  __device__ Split<4> row_operand(const float (&x)[kTensorChunk][Memory::kStride], int step) const {
    const float2 low = *reinterpret_cast<const float2*>(&x[quad][8 * step + 2 * pair]);
    const float2 high = *reinterpret_cast<const float2*>(&x[quad + 8][8 * step + 2 * pair]);
    return split_accumulator({low.x, low.y, high.x, high.y});
  }

  // One warp: M and P of a chunk.
  __device__ void make(int chunk) const {
    const Rows& r = rows(chunk);
    Products& out = products(chunk);
    const Gates g = gates(chunk);
    if (lane < 16) {
      out.factors[lane] = {g.c * decay(g.e), g.beta, p.scale * decay(g.g), decay(g.end - g.g)};
      out.decay[0] = decay(g.end);
    }
    float kk[2][4] = {}, qk[2][4] = {};
#pragma unroll
    for (int step = 0; step < D / 8; ++step) {
      const Split<4> k = row_operand(r.key, step), q = row_operand(r.query, step);
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const Split<2> other = split_pair(&r.key[8 * n + quad][8 * step + 2 * pair]);
        multiply(kk[n], k, other);
        multiply(qk[n], q, other);
      }
    }
    const float d = p.d[task.direction * p.heads + task.head];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = quad + 8 * half;
      const double g_i = __shfl_sync(~0u, g.g, i), e_i = __shfl_sync(~0u, g.e, i);
      const float c_i = __shfl_sync(~0u, g.c, i);
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        const int n = x >> 1, j = 8 * n + 2 * pair + (x & 1), at = 2 * half + (x & 1);
        const double g_j = __shfl_sync(~0u, g.g, j);
        const float score = p.scale * (qk[n][at] - d * kk[n][at]);
        out.m[i][j] = i > j ? c_i * decay(e_i - g_j) * kk[n][at] : 0.f;
        out.p[i][j] = i > j ? score * decay(g_i - g_j) : i == j ? score : 0.f;
      }
    }
    __syncwarp();
    float column[16];
    invert_row_by_row<Memory::kSide / 4>(column, reinterpret_cast<const float4*>(out.m), lane & 15,
                                         0);
    __syncwarp();
    if (lane < 16) {
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        out.m[i][lane] = column[i];
      }
    }
  }

  // c [16 rows, 16 tokens] += a triangle^T
  __device__ void multiply_triangle(float (&c)[2][4], const float (&a)[2][4],
                                    const float (&triangle)[kTensorChunk][Memory::kSide]) const {
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      const Split<4> operand = split_accumulator(a[step]);
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        multiply(c[n], operand, split_pair(&triangle[8 * n + quad][8 * step + 2 * pair]));
      }
    }
  }

  // This warp's 16 rows of S^T through a chunk; leaves its part of the output.
  __device__ void walk(float (&state)[D / 8][4], int chunk) const {
    const Rows& r = rows(chunk);
    const Products& made = products(chunk);
    float read[2][4] = {}, out[2][4] = {};
#pragma unroll
    for (int step = 0; step < D / 8; ++step) {
      const Split<4> a = split_accumulator(state[step]);
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        multiply(read[n], a, split_pair(&r.key[8 * n + quad][8 * step + 2 * pair]));
        multiply(out[n], a, split_pair(&r.query[8 * n + quad][8 * step + 2 * pair]));
      }
    }
    const float d = p.d[task.direction * p.heads + task.head];
    float update[2][4] = {}, residual[2][4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        const int token = 8 * half + 2 * pair + (x & 1), column = 16 * warp + quad + 8 * (x >> 1);
        const Factors& f = made.factors[token];
        residual[half][x] = f.beta * r.value[token][column] - f.read * read[half][x];
        out[half][x] = f.query * (out[half][x] - d * read[half][x]);
      }
    }
    multiply_triangle(update, residual, made.m);
    multiply_triangle(out, update, made.p);
    store(out, chunk);
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        state[n][x] *= made.decay[0];
      }
    }
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      const int token = 8 * step + 2 * pair;
      const float first = made.factors[token].write, second = made.factors[token + 1].write;
      const Split<4> written =
          split_accumulator({first * update[step][0], second * update[step][1],
                             first * update[step][2], second * update[step][3]});
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
        multiply(state[n], written,
                 split_pair(r.key[token][8 * n + quad], r.key[token + 1][8 * n + quad]));
      }
    }
  }

  __device__ void store(const float (&out)[2][4], int chunk) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        const int64_t s = int64_t{chunk} * kTensorChunk + 8 * half + 2 * pair + (x & 1);
        if (s < p.length) {
          const int64_t token = (task.direction * p.batch + task.batch) * p.length + task.time(s);
          o[(token * p.heads + task.head) * D + 16 * warp + quad + 8 * (x >> 1)] = out[half][x];
        }
      }
    }
  }
};

template <int D>
__global__ void __launch_bounds__(FloatBlock<D>::kThreads, FloatBlock<D>::kMinBlocks)
    scan_float_kernel(const __grid_constant__ ScanParams<float> params, float* o) {
  extern __shared__ __align__(128) char float_memory[];
  using Block = FloatBlock<D>;
  constexpr int kGroup = Block::Memory::kGroup;
  const Block b(params, o, *reinterpret_cast<typename Block::Memory*>(float_memory));
  float state[D / 8][4] = {};
  b.load(0);
  for (int first = 0; first < b.chunks; first += kGroup) {
    const int end = min(first + kGroup, b.chunks);
    asm volatile("cp.async.wait_group 0;");
    __syncthreads();
    b.load(end);
    for (int chunk = first + b.warp; chunk < end; chunk += Block::kWarps) {
      b.make(chunk);
    }
    __syncthreads();
    for (int chunk = first; chunk < end; ++chunk) {
      b.walk(state, chunk);
    }
  }
}

}  // namespace comba::kernels::cuda
