// The normal distribution function, which GELU multiplies by.
#pragma once

#include <cuda_runtime_api.h>

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

}  // namespace comba::kernels::cuda
