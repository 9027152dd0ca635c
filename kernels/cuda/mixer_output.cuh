// Behind the scan: both directions merged, RMS norm of a head's row, sigmoid gate; and back (mixer.h).
#pragma once

#include "kernels/cuda/mixer_lanes.cuh"
#include "kernels/mixer_params.h"

namespace comba::kernels::cuda {

// Elements of the gate before those of (row, lane).
__device__ inline int64_t gate_offset(const MixerOutput<float>& p, int64_t row) {
  const int64_t head = row % p.shape.heads, token = row / p.shape.heads;
  return token / p.shape.length * p.gate_batch_stride +
         token % p.shape.length * p.gate_time_stride + head * p.gate_head_stride;
}

template <typename T, int D>
__global__ void __launch_bounds__(128)
    mixer_output_kernel(const __grid_constant__ MixerOutput<float> p) {
  using Group = LaneGroup<D>;
  const int64_t rows = p.shape.batch * p.shape.length * p.shape.heads;
  const int64_t row = int64_t{blockIdx.x} * Group::kPerBlock + threadIdx.x / Group::kLanes;
  const bool present = row < rows;
  const int column = 4 * (threadIdx.x % Group::kLanes);
  const int64_t at = (present ? row : 0) * D + column;
  const T* const o = static_cast<const T*>(p.o);
  const float4 first = Four<T>::unpack(Four<T>::load(o + at));
  const float4 second = Four<T>::unpack(Four<T>::load(o + rows * D + at));
  typename Four<T>::Packed gate{};
  if (p.gate != nullptr) {
    gate = Four<T>::load(static_cast<const T*>(p.gate) + gate_offset(p, present ? row : 0) + column);
  }
  const float4 merged =
      scale4(p.factor, make_float4(first.x + second.x, first.y + second.y, first.z + second.z,
                                   first.w + second.w));
  const float scale = rsqrtf(Group::sum(dot4(merged, merged)) / D + p.eps);
  float4 y = mul4(scale4(scale, merged), *reinterpret_cast<const float4*>(p.weight + column));
  if (p.gate != nullptr) {
    y = mul4(y, sigmoid4(Four<T>::unpack(gate)));
  }
  if (present) {
    Four<T>::store(static_cast<T*>(p.merged) + at, merged);
    Four<T>::store(static_cast<T*>(p.y) + at, y);
  }
}

template <typename T, int D>
__global__ void __launch_bounds__(128)
    mixer_output_backward_kernel(const __grid_constant__ MixerOutputGradients<float> g) {
  using Group = LaneGroup<D>;
  const MixerOutput<float>& p = g.forward;
  const int64_t rows = p.shape.batch * p.shape.length * p.shape.heads;
  const int64_t partial = int64_t{blockIdx.x} * Group::kPerBlock + threadIdx.x / Group::kLanes;
  const int column = 4 * (threadIdx.x % Group::kLanes);
  const float4 weight = *reinterpret_cast<const float4*>(p.weight + column);
  float4 grad_weight = make_float4(0.f, 0.f, 0.f, 0.f);
  for (int64_t first = 0; first < rows; first += g.partials) {
    const int64_t row = first + partial;
    const bool present = partial < g.partials && row < rows;
    const int64_t at = (present ? row : 0) * D + column;
    const float4 o = Four<T>::unpack(Four<T>::load(static_cast<const T*>(p.merged) + at));
    float4 dz = Four<T>::unpack(Four<T>::load(static_cast<const T*>(g.grad_y) + at));
    const float scale = rsqrtf(Group::sum(dot4(o, o)) / D + p.eps);
    const float4 n = scale4(scale, o);
    if (p.gate != nullptr) {
      const int64_t gate_at = gate_offset(p, present ? row : 0) + column;
      const float4 s =
          sigmoid4(Four<T>::unpack(Four<T>::load(static_cast<const T*>(p.gate) + gate_at)));
      const float4 slope = make_float4(s.x * (1.f - s.x), s.y * (1.f - s.y), s.z * (1.f - s.z),
                                       s.w * (1.f - s.w));
      if (present) {
        Four<T>::store(static_cast<T*>(g.grad_gate) + at, mul4(mul4(dz, slope), mul4(n, weight)));
      }
      dz = mul4(dz, s);
    }
    if (present) {
      grad_weight = fma4(dz, n, grad_weight);
    }
    const float4 dn = mul4(dz, weight);
    const float along = Group::sum(dot4(dn, n)) / D;
    if (present) {
      const float4 grad = make_float4(dn.x - along * n.x, dn.y - along * n.y, dn.z - along * n.z,
                                      dn.w - along * n.w);
      Four<T>::store(static_cast<T*>(g.grad_o) + at, scale4(scale, grad));
    }
  }
  if (partial < g.partials) {
    *reinterpret_cast<float4*>(g.grad_weight + partial * D + column) = grad_weight;
  }
}

}  // namespace comba::kernels::cuda
