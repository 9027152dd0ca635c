// Products of a warpgroup that mlp.cu consists of: warpgroup_matrix.cuh has the fragments and the rows in shared memory.
#pragma once

#include "kernels/cuda/warpgroup_matrix.cuh"

namespace comba::kernels::cuda {

// Rows of 64 elements whose columns are the operand's, which has `blocks` of 64 columns `bytes` apart.
__device__ inline uint64_t column_descriptor(uint32_t address, uint32_t bytes) {
  return (matrix_descriptor(address) & ~uint64_t{0xffff0000u}) | uint64_t{bytes >> 4} << 16;
}

#define COMBA_FOUR(x, n) "+f"(x[n][0]), "+f"(x[n][1]), "+f"(x[n][2]), "+f"(x[n][3])
#define COMBA_32(x, n)                                                                \
  COMBA_FOUR(x, n), COMBA_FOUR(x, n + 1), COMBA_FOUR(x, n + 2), COMBA_FOUR(x, n + 3), \
      COMBA_FOUR(x, n + 4), COMBA_FOUR(x, n + 5), COMBA_FOUR(x, n + 6), COMBA_FOUR(x, n + 7)
#define COMBA_NAMES_32                                                                         \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
  "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define COMBA_NAMES_96                                                                         \
  COMBA_NAMES_32                                                                               \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, "    \
  "%49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, %64, %65, %66, " \
  "%67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, " \
  "%85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"

// x = (add: +=) a b, with a [64, 16] in shared memory or registers, and b's columns in rows of shared memory or (kColumns) the
// other way round: 64 or 192 of them.
template <typename T>
struct MlpProduct;
#define COMBA_MLP_PRODUCT(T, type)                                                         \
  template <>                                                                              \
  struct MlpProduct<T> {                                                                   \
    template <int kColumns>                                                                \
    static __device__ void to_64(float (&x)[8][4], uint64_t a, uint64_t b, int add) {      \
      asm volatile(                                                                        \
          "{ .reg .pred p; setp.ne.b32 p, %34, 0; "                                        \
          "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " {" COMBA_NAMES_32  \
          "}, %32, %33, p, 1, 1, 0, %35; }"                                                \
          : COMBA_32(x, 0)                                                                 \
          : "l"(a), "l"(b), "r"(add), "n"(kColumns));                                      \
    }                                                                                      \
    static __device__ void to_192(float (&x)[24][4], uint64_t a, uint64_t b, int add) {    \
      asm volatile(                                                                        \
          "{ .reg .pred p; setp.ne.b32 p, %98, 0; "                                        \
          "wgmma.mma_async.sync.aligned.m64n192k16.f32." type "." type " {" COMBA_NAMES_96 \
          "}, %96, %97, p, 1, 1, 0, 0; }"                                                  \
          : COMBA_32(x, 0), COMBA_32(x, 8), COMBA_32(x, 16)                                \
          : "l"(a), "l"(b), "r"(add));                                                     \
    }                                                                                      \
    template <int kColumns>                                                                \
    static __device__ void to_192(float (&x)[24][4], const uint32_t (&a)[4], uint64_t b,   \
                                  int add) {                                               \
      asm volatile(                                                                        \
          "{ .reg .pred p; setp.ne.b32 p, %101, 0; "                                       \
          "wgmma.mma_async.sync.aligned.m64n192k16.f32." type "." type " {" COMBA_NAMES_96 \
          "}, {%96, %97, %98, %99}, %100, p, 1, 1, %102; }"                                \
          : COMBA_32(x, 0), COMBA_32(x, 8), COMBA_32(x, 16)                                \
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(kColumns));  \
    }                                                                                      \
  };
COMBA_MLP_PRODUCT(__nv_bfloat16, "bf16")
COMBA_MLP_PRODUCT(__half, "f16")
#undef COMBA_MLP_PRODUCT
#undef COMBA_NAMES_96
#undef COMBA_NAMES_32
#undef COMBA_32
#undef COMBA_FOUR

}  // namespace comba::kernels::cuda
