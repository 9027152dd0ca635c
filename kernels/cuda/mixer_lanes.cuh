// E neighbouring channels a lane, D / E lanes a row: what the kernels around the scan are made of.
#pragma once

#include "kernels/cuda/mixer_cuda.h"
#include "kernels/cuda/tensor_matrix.cuh"

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace comba::kernels::cuda {

// Two approximate instructions, each within 2 units in the last place; 0 and 1 at the ends.
__device__ inline float sigmoid(float x) {
  float power, y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(-1.4426950408889634f * x));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(1.f + power));
  return y;
}

__device__ inline float tanh_fast(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline float rsqrt_fast(float x) {
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// Of half-width inputs within 2^-11.
template <typename T>
__device__ inline float tanh(float x) {
  return sizeof(T) == 4 ? fmaf(2.f, sigmoid(2.f * x), -1.f) : tanh_fast(x);
}

__device__ inline float2 unpack_two(uint32_t x, __nv_bfloat16) {
  return make_float2(__uint_as_float(x << 16), __uint_as_float(x & 0xffff0000u));
}
__device__ inline float2 unpack_two(uint32_t x, __half) {
  return __half22float2(reinterpret_cast<const __half2&>(x));
}
__device__ inline uint32_t pack_two(float x, float y, __nv_bfloat16) {
  const __nv_bfloat162 two = __floats2bfloat162_rn(x, y);
  return reinterpret_cast<const uint32_t&>(two);
}
__device__ inline uint32_t pack_two(float x, float y, __half) {
  const __half2 two = __floats2half2_rn(x, y);
  return reinterpret_cast<const uint32_t&>(two);
}

template <int E>
struct Channels {
  float at[E];
};

// A lane's channels as they lie in memory: one load or store.
template <typename T, int E>
struct alignas(sizeof(T) * E > 16 ? 16 : sizeof(T) * E) Packed {
  uint32_t words[E * sizeof(T) / 4];

  static __device__ Packed load(const T* at) { return *reinterpret_cast<const Packed*>(at); }
  __device__ void store(T* at) const { *reinterpret_cast<Packed*>(at) = *this; }

  __device__ Channels<E> unpack() const {
    Channels<E> x;
    if constexpr (sizeof(T) == 4) {
#pragma unroll
      for (int i = 0; i < E; ++i) {
        x.at[i] = __uint_as_float(words[i]);
      }
    } else {
#pragma unroll
      for (int i = 0; i < E / 2; ++i) {
        const float2 two = unpack_two(words[i], T());
        x.at[2 * i] = two.x;
        x.at[2 * i + 1] = two.y;
      }
    }
    return x;
  }
  static __device__ Packed pack(const Channels<E>& x) {
    Packed out;
    if constexpr (sizeof(T) == 4) {
#pragma unroll
      for (int i = 0; i < E; ++i) {
        out.words[i] = __float_as_uint(x.at[i]);
      }
    } else {
#pragma unroll
      for (int i = 0; i < E / 2; ++i) {
        out.words[i] = pack_two(x.at[2 * i], x.at[2 * i + 1], T());
      }
    }
    return out;
  }
};

// base + n * bytes in global memory by a multiplication of 32 bits.
__device__ inline char* advanced(const void* base, uint32_t n, uint32_t bytes) {
  char* at;
  asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(at) : "r"(n), "r"(bytes), "l"(base));
  __builtin_assume(__isGlobal(at));
  return at;
}
// Global to shared memory; zeros if not `present`.
template <typename T, int E>
__device__ inline void copy_async(Packed<T, E>& target, const void* source, bool present) {
  constexpr int kBytes = sizeof(Packed<T, E>);
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(&target))),
               "l"(source), "n"(kBytes), "r"(present ? kBytes : 0)
               : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until no more than `kLeft` groups of this thread's copies are on their way.
template <int kLeft>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

template <int E>
__device__ inline float dot(const Channels<E>& a, const Channels<E>& b) {
  float sum = 0.f;
#pragma unroll
  for (int i = 0; i < E; ++i) {
    sum = fmaf(a.at[i], b.at[i], sum);
  }
  return sum;
}
template <int E>
__device__ inline void add_product(Channels<E>& sum, const Channels<E>& a, const Channels<E>& b) {
#pragma unroll
  for (int i = 0; i < E; ++i) {
    sum.at[i] = fmaf(a.at[i], b.at[i], sum.at[i]);
  }
}
template <int E>
__device__ inline Channels<E> product(const Channels<E>& a, const Channels<E>& b) {
  Channels<E> out;
#pragma unroll
  for (int i = 0; i < E; ++i) {
    out.at[i] = a.at[i] * b.at[i];
  }
  return out;
}
template <int E>
__device__ inline Channels<E> product(float a, const Channels<E>& b) {
  Channels<E> out;
#pragma unroll
  for (int i = 0; i < E; ++i) {
    out.at[i] = a * b.at[i];
  }
  return out;
}
template <int E>
__device__ inline Channels<E> sigmoid(const Channels<E>& x) {
  Channels<E> out;
#pragma unroll
  for (int i = 0; i < E; ++i) {
    out.at[i] = sigmoid(x.at[i]);
  }
  return out;
}
template <int E>
__device__ inline Channels<E> ones() {
  Channels<E> out;
#pragma unroll
  for (int i = 0; i < E; ++i) {
    out.at[i] = 1.f;
  }
  return out;
}
template <typename T, int E>
__device__ inline Channels<E> tanh(const Channels<E>& x) {
  Channels<E> out;
#pragma unroll
  for (int i = 0; i < E; ++i) {
    out.at[i] = tanh<T>(x.at[i]);
  }
  return out;
}
template <int E>
__device__ inline Channels<E> load_floats(const float* at) {
  Channels<E> x;
#pragma unroll
  for (int i = 0; i < E; ++i) {
    x.at[i] = at[i];
  }
  return x;
}

// A lane's taps of one direction; the last meets the token itself.
template <int E>
struct LaneTaps {
  Channels<E> w[kMixerTaps];

  __device__ LaneTaps(const float* taps, int64_t channel) {
#pragma unroll
    for (int i = 0; i < E; ++i) {
      const float4 four = reinterpret_cast<const float4*>(taps)[channel + i];
      w[0].at[i] = four.x;
      w[1].at[i] = four.y;
      w[2].at[i] = four.z;
      w[3].at[i] = four.w;
    }
  }
  __device__ void halve() {
#pragma unroll
    for (int j = 0; j < kMixerTaps; ++j) {
      w[j] = product(0.5f, w[j]);
    }
  }
  __device__ void reverse() {
    const Channels<E> last[2] = {w[3], w[2]};
    w[3] = w[0];
    w[2] = w[1];
    w[0] = last[0];
    w[1] = last[1];
  }
};

constexpr int kMixerThreads = 128;
// Channels of a lane where registers are not short.
template <int D>
constexpr int kForwardChannels = D == 16 ? 4 : 8;

// The lanes of a row. All lanes of a warp take part in a sum.
template <int D, int E>
struct LaneGroup {
  static constexpr int kLanes = D / E;
  static constexpr int kPerBlock = kMixerThreads / kLanes;

  static __device__ int64_t group() {
    return int64_t{blockIdx.x} * kPerBlock + threadIdx.x / kLanes;
  }
  static __device__ int column() { return E * (threadIdx.x % kLanes); }
  static __device__ float sum(float x) {
    float sums[1][1] = {{x}};
    sum_all(sums);
    return sums[0][0];
  }
  // Four numbers of a lane, summed at once. Of half-width inputs by products of tf32, which drop the last 13 bits of a number,
  // up to 2^-10 of it, twice; a factor of 1 + 2^-10 leaves an error of either sign, under 2^-10 and a third of it on average.
  template <typename T>
  static __device__ void sum_four(float (&x)[4]) {
    if constexpr (sizeof(T) == 4 || kLanes < 8) {
      float sums[1][4] = {{x[0], x[1], x[2], x[3]}};
      sum_all(sums);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        x[i] = sums[0][i];
      }
    } else {
      const int lane = static_cast<int>(threadIdx.x) % 32, pair = lane % 4, quad = lane / 4;
      const uint32_t own = pair * 8 / kLanes == lane / kLanes ? ~0u : 0;
      const uint32_t one = __float_as_uint(1.f);
      uint32_t parts[4];
#pragma unroll
      for (int i = 0; i < 4; i += 2) {
        // Column n: of the lanes of quad n, in all lanes; the first sum in rows 0 .. 7, the second in the others. Those of this
        // group are summed.
        float c[4] = {};
        multiply_tf32(c, {one, 0, 0, one}, {__float_as_uint(x[i]), __float_as_uint(x[i + 1])});
        parts[i] = __float_as_uint(c[0] + c[1]) & own;
        parts[i + 1] = __float_as_uint(c[2] + c[3]) & own;
      }
      const uint32_t all = __float_as_uint(1.f + 0x1p-10f), even = quad % 2 == 0 ? all : 0;
      float c[4] = {};
      multiply_tf32(c, parts, {even, all - even});
      x[0] = c[0];
      x[1] = c[2];
      x[2] = c[1];
      x[3] = c[3];
    }
  }
  // Several sums at once hide each other's latency.
  template <int M, int N>
  static __device__ void sum_all(float (&x)[M][N]) {
#pragma unroll
    for (int step = 1; step < kLanes; step *= 2) {
#pragma unroll
      for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int n = 0; n < N; ++n) {
          x[m][n] += __shfl_xor_sync(~0u, x[m][n], step);
        }
      }
    }
  }
};

}  // namespace comba::kernels::cuda
