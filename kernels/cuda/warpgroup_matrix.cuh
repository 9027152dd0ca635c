// Products of a warpgroup (PTX ISA, wgmma): [64, 16] by [16, N] in half width, the first operand in registers and the
// second in shared memory, accumulated in fp32. For sm_90a.
//
// Warp w of the four has rows 16 w .. 16 w + 15 of the accumulators and of the first operand, in the fragments of
// tensor_matrix.cuh. The second operand is read from rows as row_piece() lays them, 64 elements wide, which is the
// 128-byte swizzle; so a chunk's rows begin at a multiple of 1,024 bytes.
#pragma once

#include "kernels/cuda/tensor_matrix.cuh"

namespace comba::kernels::cuda {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
constexpr bool kWarpgroupProducts = true;
#else
constexpr bool kWarpgroupProducts = false;
#endif

// Of rows of 64 elements at a shared address: 1,024 bytes from eight rows to the next eight. Where the rows are the
// operand's columns, `step` picks their elements 16 step .. + 15.
__device__ inline uint64_t matrix_descriptor(uint32_t address, int step = 0) {
  constexpr uint32_t kEightRows = 1024 >> 4, kSwizzle128 = 1u << 30;
  const uint32_t low = (address >> 4 | 1u << 16) + 2 * step;
  return uint64_t{kEightRows | kSwizzle128} << 32 | low;
}

// Before the first product that reads registers written by other instructions, once for several.
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until all that has been committed is done.
__device__ inline void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}
// The compiler takes `x` for changed here: no use of it moves across.
template <int N>
__device__ inline void hold(float (&x)[N][4]) {
#pragma unroll
  for (int n = 0; n < N; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      asm volatile("" : "+f"(x[n][i])::"memory");
    }
  }
}
// What this thread knows to be written in shared memory may be read by products after it.
__device__ inline void show_to_products() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

#define COMBA_WGMMA(shape, type, registers, a0, a1, a2, a3, descriptor, scale, transposed)        \
  "{ .reg .pred p; setp.ne.b32 p, " scale ", 0; wgmma.mma_async.sync.aligned." shape ".f32." type \
  "." type " {" registers "}, {" a0 ", " a1 ", " a2 ", " a3 "}, " descriptor                      \
  ", p, 1, 1, " transposed "; }"

// by_rows: x, y [64, 16] each = (add: +=) a [64, 16] times 16 columns of 32 rows, transposed; or x alone by 16 rows.
// by_columns: x [64, 64] += a [64, 16] times 16 rows of 64.
template <typename T>
struct WarpgroupProduct;
#define COMBA_WARPGROUP_PRODUCT(T, type)                                                         \
  template <>                                                                                    \
  struct WarpgroupProduct<T> {                                                                   \
    static __device__ void by_rows(float (&x)[2][4], float (&y)[2][4], const uint32_t (&a)[4],   \
                                   uint64_t rows, int add) {                                     \
      asm volatile(                                                                              \
          COMBA_WGMMA("m64n32k16", type,                                                         \
                      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15",    \
                      "%16", "%17", "%18", "%19", "%20", "%21", "0")                             \
          : "+f"(x[0][0]), "+f"(x[0][1]), "+f"(x[0][2]), "+f"(x[0][3]), "+f"(x[1][0]),           \
            "+f"(x[1][1]), "+f"(x[1][2]), "+f"(x[1][3]), "+f"(y[0][0]), "+f"(y[0][1]),           \
            "+f"(y[0][2]), "+f"(y[0][3]), "+f"(y[1][0]), "+f"(y[1][1]), "+f"(y[1][2]),           \
            "+f"(y[1][3])                                                                        \
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(rows), "r"(add));                    \
    }                                                                                            \
    static __device__ void by_rows(float (&x)[2][4], const uint32_t (&a)[4], uint64_t rows,      \
                                   int add) {                                                    \
      asm volatile(COMBA_WGMMA("m64n16k16", type, "%0, %1, %2, %3, %4, %5, %6, %7", "%8", "%9",  \
                               "%10", "%11", "%12", "%13", "0")                                  \
                   : "+f"(x[0][0]), "+f"(x[0][1]), "+f"(x[0][2]), "+f"(x[0][3]), "+f"(x[1][0]),  \
                     "+f"(x[1][1]), "+f"(x[1][2]), "+f"(x[1][3])                                 \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(rows), "r"(add));           \
    }                                                                                            \
    static __device__ void by_columns(float (&x)[8][4], const uint32_t (&a)[4], uint64_t rows) { \
      asm volatile(                                                                              \
          COMBA_WGMMA(                                                                           \
              "m64n64k16", type,                                                                 \
              "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
              "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31",            \
              "%32", "%33", "%34", "%35", "%36", "1", "1")                                       \
          : "+f"(x[0][0]), "+f"(x[0][1]), "+f"(x[0][2]), "+f"(x[0][3]), "+f"(x[1][0]),           \
            "+f"(x[1][1]), "+f"(x[1][2]), "+f"(x[1][3]), "+f"(x[2][0]), "+f"(x[2][1]),           \
            "+f"(x[2][2]), "+f"(x[2][3]), "+f"(x[3][0]), "+f"(x[3][1]), "+f"(x[3][2]),           \
            "+f"(x[3][3]), "+f"(x[4][0]), "+f"(x[4][1]), "+f"(x[4][2]), "+f"(x[4][3]),           \
            "+f"(x[5][0]), "+f"(x[5][1]), "+f"(x[5][2]), "+f"(x[5][3]), "+f"(x[6][0]),           \
            "+f"(x[6][1]), "+f"(x[6][2]), "+f"(x[6][3]), "+f"(x[7][0]), "+f"(x[7][1]),           \
            "+f"(x[7][2]), "+f"(x[7][3])                                                         \
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(rows));                              \
    }                                                                                            \
  };
COMBA_WARPGROUP_PRODUCT(__nv_bfloat16, "bf16")
COMBA_WARPGROUP_PRODUCT(__half, "f16")
#undef COMBA_WARPGROUP_PRODUCT
#undef COMBA_WGMMA

}  // namespace comba::kernels::cuda
