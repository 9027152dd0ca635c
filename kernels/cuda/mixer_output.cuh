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
__global__ void __launch_bounds__(kMixerThreads)
    mixer_output_kernel(const __grid_constant__ MixerOutput<float> p) {
  constexpr int E = kForwardChannels<D>;
  using Group = LaneGroup<D, E>;
  using Lane = Packed<T, E>;
  const int64_t rows = p.shape.batch * p.shape.length * p.shape.heads, row = Group::group();
  const bool present = row < rows;
  const int column = Group::column();
  const int64_t at = (present ? row : 0) * D + column;
  const T* const o = static_cast<const T*>(p.o);
  const Lane first = Lane::load(o + at), second = Lane::load(o + rows * D + at);
  Lane gate = {};
  if (p.gate != nullptr) {
    gate = Lane::load(static_cast<const T*>(p.gate) + gate_offset(p, present ? row : 0) + column);
  }
  Channels<E> merged = first.unpack();
  const Channels<E> other = second.unpack();
#pragma unroll
  for (int i = 0; i < E; ++i) {
    merged.at[i] = p.factor * (merged.at[i] + other.at[i]);
  }
  const float scale = rsqrtf(Group::sum(dot(merged, merged)) / D + p.eps);
  Channels<E> y = product(product(scale, merged), load_floats<E>(p.weight + column));
  if (p.gate != nullptr) {
    y = product(y, sigmoid(gate.unpack()));
  }
  if (present) {
    Lane::pack(merged).store(static_cast<T*>(p.merged) + at);
    Lane::pack(y).store(static_cast<T*>(p.y) + at);
  }
}

template <typename T, int D>
__global__ void __launch_bounds__(kMixerThreads)
    mixer_output_backward_kernel(const __grid_constant__ MixerOutputGradients<float> g) {
  constexpr int E = kBackwardChannels;
  using Group = LaneGroup<D, E>;
  using Lane = Packed<T, E>;
  const MixerOutput<float>& p = g.forward;
  const int64_t rows = p.shape.batch * p.shape.length * p.shape.heads, partial = Group::group();
  const int column = Group::column();
  const Channels<E> weight = load_floats<E>(p.weight + column);
  Channels<E> grad_weight = {};
  for (int64_t first = 0; first < rows; first += g.partials) {
    const int64_t row = first + partial;
    const bool present = partial < g.partials && row < rows;
    const int64_t at = (present ? row : 0) * D + column;
    const Channels<E> o = Lane::load(static_cast<const T*>(p.merged) + at).unpack();
    Channels<E> dz = Lane::load(static_cast<const T*>(g.grad_y) + at).unpack();
    Lane gate = {};
    if (p.gate != nullptr) {
      gate = Lane::load(static_cast<const T*>(p.gate) + gate_offset(p, present ? row : 0) + column);
    }
    const float scale = rsqrtf(Group::sum(dot(o, o)) / D + p.eps);
    const Channels<E> n = product(scale, o);
    if (p.gate != nullptr) {
      const Channels<E> s = sigmoid(gate.unpack());
      Channels<E> slope;
#pragma unroll
      for (int i = 0; i < E; ++i) {
        slope.at[i] = s.at[i] * (1.f - s.at[i]);
      }
      if (present) {
        Lane::pack(product(product(dz, slope), product(n, weight)))
            .store(static_cast<T*>(g.grad_gate) + at);
      }
      dz = product(dz, s);
    }
    const Channels<E> dn = product(dz, weight);
    const float along = Group::sum(dot(dn, n)) / D;
    if (present) {
      add_product(grad_weight, dz, n);
      Channels<E> grad;
#pragma unroll
      for (int i = 0; i < E; ++i) {
        grad.at[i] = scale * fmaf(-along, n.at[i], dn.at[i]);
      }
      Lane::pack(grad).store(static_cast<T*>(g.grad_o) + at);
    }
  }
  if (partial < g.partials) {
#pragma unroll
    for (int i = 0; i < E; ++i) {
      g.grad_weight[partial * D + column + i] = grad_weight.at[i];
    }
  }
}

}  // namespace comba::kernels::cuda
