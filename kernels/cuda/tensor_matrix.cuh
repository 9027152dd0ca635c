// Warp-level building blocks of the tensor-core kernels: 16 x 8 x 16 products, matrix loads, transposition, swizzled
// shared-memory rows. Half-width operands, fp32 accumulators.
//
// Fragments, with quad = lane / 4 and pair = lane % 4 (PTX ISA, mma.m16n8k16):
//   accumulator c [16, 8]   c0, c1: row quad, columns 2 pair, + 1;  c2, c3: row quad + 8
//   operand a [16, 16]      a0: row quad, k 2 pair, + 1;  a1: row quad + 8;  a2, a3: the same at k + 8
//   operand b [16, 8]       b0: k 2 pair, + 1, column quad;  b1: k + 8
// Two accumulators side by side, rounded to pairs, are an operand a.
#pragma once

#include "kernels/cuda/scan_cuda.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace comba::kernels::cuda {

template <typename T>
struct Half;
template <>
struct Half<__nv_bfloat16> {
  static __device__ uint32_t pack(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return reinterpret_cast<const uint32_t&>(pair);
  }
  static __device__ float2 unpack(uint32_t pair) {
    return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
  }
  static __device__ __nv_bfloat16 round(float x) { return __float2bfloat16_rn(x); }
  // c [16, 8] += a [16, 16] b [16, 8]
  static __device__ void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};
template <>
struct Half<__half> {
  static __device__ uint32_t pack(float low, float high) {
    const __half2 pair = __floats2half2_rn(low, high);
    return reinterpret_cast<const uint32_t&>(pair);
  }
  static __device__ float2 unpack(uint32_t pair) {
    return __half22float2(reinterpret_cast<const __half2&>(pair));
  }
  static __device__ __half round(float x) { return __float2half_rn(x); }
  static __device__ void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};

// c [16, 8] += a [16, 8] b [8, 8] of tf32: fp32 numbers without their last 13 bits.
__device__ inline void multiply_tf32(float (&c)[4], const uint32_t (&a)[4],
                                     const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline void load_matrices(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}
__device__ inline void load_matrices_transposed(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}
__device__ inline uint32_t transposed(uint32_t x) {
  uint32_t y;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}
// 16 bytes global -> shared; zeros if not `present`.
__device__ inline void copy_async(uint32_t target, const void* source, bool present) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(source),
               "r"(present ? 16 : 0));
}

__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Byte offset of 16-byte piece `piece` of a row of D half-width elements; the exclusive-or spreads the eight rows of a
// matrix over all banks.
template <int D>
__device__ inline uint32_t row_piece(int row, int piece) {
  const int spread = D == 32 ? (row >> 1) & 3 : row & 7;
  return static_cast<uint32_t>(row * D * 2 + ((piece ^ spread) << 4));
}
// The same for a 16 x 16 triangle.
__device__ inline uint32_t triangle_piece(int row, int piece) {
  return static_cast<uint32_t>(row * 32 + (piece ^ (row >> 2 & 1)) * 16);
}

// Which of four 8 x 8 matrices, [8 top + ..][8 left + ..] of a 16 x 16 tile, a lane's address names in a load.
// kPairRows puts the two of a row of matrices next to each other: as they lie they are two operands b whose columns are
// the tile's rows. kPairColumns puts those of a column together: transposed, two operands b whose columns are the
// tile's columns; as they lie, an operand a.
enum TileOrder { kPairRows, kPairColumns };
template <TileOrder kOrder>
__device__ inline int tile_row(int lane) {
  return kOrder == kPairRows ? (lane & 7) + (lane >> 4) * 8 : lane & 15;
}
template <TileOrder kOrder>
__device__ inline int tile_piece(int lane) {
  return kOrder == kPairRows ? lane >> 3 & 1 : lane >> 4;
}
// Byte offset of this lane's piece of the first tile of 16 rows; that of tile `step` along the rows is the
// exclusive-or of it and 32 step.
template <int D, TileOrder kOrder>
__device__ inline uint32_t tile_offset(int lane) {
  return row_piece<D>(tile_row<kOrder>(lane), tile_piece<kOrder>(lane));
}

}  // namespace comba::kernels::cuda
