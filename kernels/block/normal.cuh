// The normal distribution function, which GELU multiplies by.
#pragma once

#include "kernels/cuda/tensor_matrix.cuh"

namespace comba::kernels::cuda {

// Phi(u), and for the derivative exp(-u^2 / 2).
template <typename T>
struct Normal {
  float below, density;

  __device__ explicit Normal(float u) {
    if constexpr (sizeof(T) == 4) {
      density = expf(-0.5f * u * u);
      below = 0.5f * erfcf(-0.70710678118654752f * u);
    } else {
      // Abramowitz and Stegun 7.1.26 of |u| / sqrt(2), halved: what lies beyond |u|.
      asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(density) : "f"(-0.72134752044448170f * u * u));
      float t;
      asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(t) : "f"(fmaf(0.23164190f, fabsf(u), 1.f)));
      float beyond = fmaf(0.5307027145f, t, -0.7265760135f);
      beyond = fmaf(beyond, t, 0.7107068705f);
      beyond = fmaf(beyond, t, -0.142248368f);
      beyond = fmaf(beyond, t, 0.127414796f);
      beyond *= t * density;
      below = u > 0.f ? 1.f - beyond : beyond;
    }
  }
  // Of u Phi(u).
  __device__ float slope(float u) const { return fmaf(0.39894228040143268f * density, u, below); }
};

// Phi(-|u|) for results of half width, within an eighth of their rounding: its binary logarithm is nearly a parabola, so that
// 2 to the power of a polynomial takes one approximate instruction. Fitted where it exceeds 2e-8 (bf16) or 4e-11 (fp16);
// beyond, the polynomials fall without end.
template <typename T>
__device__ inline float beyond(float u);
template <>
__device__ inline float beyond<__nv_bfloat16>(float u) {
  const float x = fabsf(u);
  float power = fmaf(-0.000233252867f, x, 0.00486979401f);
  power = fmaf(power, x, -0.0445991047f);
  power = fmaf(power, x, -0.469680876f);
  power = fmaf(power, x, -1.14626098f);
  return exp2_fast(fmaf(power, x, -1.00035906f));
}
template <>
__device__ inline float beyond<__half>(float u) {
  const float x = fabsf(u);
  float power = fmaf(-1.75773846e-06f, x, 5.99357518e-05f);
  power = fmaf(power, x, -0.000916355813f);
  power = fmaf(power, x, 0.00844735466f);
  power = fmaf(power, x, -0.0538244322f);
  power = fmaf(power, x, -0.45861578f);
  power = fmaf(power, x, -1.15118015f);
  return exp2_fast(fmaf(power, x, -1.00000393f));
}

// GELU by what lies beyond, and its slope.
__device__ inline float gelu(float u, float beyond) {
  return fmaf(-fabsf(u), beyond, fmaxf(u, 0.f));
}
__device__ inline float gelu_slope(float u, float beyond) {
  // exp(-u^2 / 2) / sqrt(2 pi)
  const float density = exp2_fast(fmaf(-0.72134752044448170f * u, u, -1.3257480647361593f));
  return fmaf(u, density, u > 0.f ? 1.f - beyond : beyond);
}

}  // namespace comba::kernels::cuda
