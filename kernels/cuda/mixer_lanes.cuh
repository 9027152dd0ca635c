// Four neighbouring channels a lane, D / 4 lanes a row: what the kernels around the scan are made of.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace comba::kernels::cuda {

__device__ inline float4 fma4(float4 a, float4 b, float4 c) {
  return make_float4(fmaf(a.x, b.x, c.x), fmaf(a.y, b.y, c.y), fmaf(a.z, b.z, c.z),
                     fmaf(a.w, b.w, c.w));
}
__device__ inline float4 mul4(float4 a, float4 b) {
  return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w);
}
__device__ inline float4 scale4(float a, float4 b) {
  return make_float4(a * b.x, a * b.y, a * b.z, a * b.w);
}
__device__ inline float dot4(float4 a, float4 b) {
  return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
}
__device__ inline float sigmoid(float x) { return __fdividef(1.f, 1.f + __expf(-x)); }
__device__ inline float4 sigmoid4(float4 x) {
  return make_float4(sigmoid(x.x), sigmoid(x.y), sigmoid(x.z), sigmoid(x.w));
}

// Loads, stores and conversions of four elements of T.
template <typename T>
struct Four;
template <>
struct Four<float> {
  using Packed = float4;
  static __device__ Packed load(const float* at) { return *reinterpret_cast<const float4*>(at); }
  static __device__ Packed zero() { return make_float4(0.f, 0.f, 0.f, 0.f); }
  static __device__ float4 unpack(Packed x) { return x; }
  static __device__ void store(float* at, float4 x) { *reinterpret_cast<float4*>(at) = x; }
};
template <>
struct Four<__nv_bfloat16> {
  using Packed = uint2;
  static __device__ Packed load(const __nv_bfloat16* at) {
    return *reinterpret_cast<const uint2*>(at);
  }
  static __device__ Packed zero() { return make_uint2(0, 0); }
  static __device__ float4 unpack(Packed x) {
    return make_float4(__uint_as_float(x.x << 16), __uint_as_float(x.x & 0xffff0000u),
                       __uint_as_float(x.y << 16), __uint_as_float(x.y & 0xffff0000u));
  }
  static __device__ void store(__nv_bfloat16* at, float4 x) {
    const __nv_bfloat162 low = __floats2bfloat162_rn(x.x, x.y), high = __floats2bfloat162_rn(x.z, x.w);
    *reinterpret_cast<uint2*>(at) = make_uint2(reinterpret_cast<const uint32_t&>(low),
                                               reinterpret_cast<const uint32_t&>(high));
  }
};
template <>
struct Four<__half> {
  using Packed = uint2;
  static __device__ Packed load(const __half* at) { return *reinterpret_cast<const uint2*>(at); }
  static __device__ Packed zero() { return make_uint2(0, 0); }
  static __device__ float4 unpack(Packed x) {
    const float2 low = __half22float2(reinterpret_cast<const __half2&>(x.x));
    const float2 high = __half22float2(reinterpret_cast<const __half2&>(x.y));
    return make_float4(low.x, low.y, high.x, high.y);
  }
  static __device__ void store(__half* at, float4 x) {
    const __half2 low = __floats2half2_rn(x.x, x.y), high = __floats2half2_rn(x.z, x.w);
    *reinterpret_cast<uint2*>(at) = make_uint2(reinterpret_cast<const uint32_t&>(low),
                                               reinterpret_cast<const uint32_t&>(high));
  }
};

// The lanes of a row. All lanes of a warp take part in a sum.
template <int D>
struct LaneGroup {
  static constexpr int kLanes = D / 4;
  static constexpr int kPerBlock = 128 / kLanes;

  static __device__ float sum(float x) {
#pragma unroll
    for (int step = 1; step < kLanes; step *= 2) {
      x += __shfl_xor_sync(~0u, x, step);
    }
    return x;
  }
};

}  // namespace comba::kernels::cuda
