// Behind the scan: directions merged or side by side, RMS norm of a head's row, sigmoid gate; and back (mixer.h).
#pragma once

#include "kernels/cuda/mixer_lanes.cuh"
#include "kernels/mixer_params.h"

namespace comba::kernels::cuda {

// Rows of merged outputs before that of a side of `row` of [B T H]; kApart: there are two sides.
template <bool kApart>
__device__ inline int64_t side_row(const MixerOutput<float>& p, int64_t row, int side) {
  return kApart ? row + (row / p.shape.heads + side) * p.shape.heads : row;
}

// Elements of the gate before those of (row, lane).
__device__ inline int64_t gate_offset(const MixerOutput<float>& p, int64_t row) {
  const int64_t head = row % p.shape.heads, token = row / p.shape.heads;
  return token / p.shape.length * p.gate_batch_stride +
         token % p.shape.length * p.gate_time_stride + head * p.gate_head_stride;
}

template <typename T, int D, bool kApart>
__global__ void __launch_bounds__(kMixerThreads)
    mixer_output_kernel(const __grid_constant__ MixerOutput<float> p) {
  constexpr int E = kForwardChannels<D>;
  using Group = LaneGroup<D, E>;
  using Lane = Packed<T, E>;
  const int64_t rows = p.shape.batch * p.shape.length * p.shape.heads, row = Group::group();
  const bool present = row < rows;
  const int column = Group::column();
  const int side = kApart ? static_cast<int>(blockIdx.y) : 0;
  const int64_t safe = present ? row : 0;
  const T* const o = static_cast<const T*>(p.o) + (side * rows + safe) * D + column;
  const Lane first = Lane::load(o);
  Lane second = {}, gate = {};
  if (!kApart && p.shape.directions == 2) {
    second = Lane::load(o + rows * D);
  }
  if (p.gate != nullptr) {
    gate = Lane::load(static_cast<const T*>(p.gate) + gate_offset(p, safe) + column);
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
    const int64_t to = side_row<kApart>(p, row, side) * D + column;
    Lane::pack(merged).store(static_cast<T*>(p.merged) + to);
    Lane::pack(y).store(static_cast<T*>(p.y) + to);
  }
}

// One lane's part of a row on the way back.
template <typename T, int D, bool kApart>
struct OutputGradient {
  static constexpr int E = kBackwardChannels;
  using Group = LaneGroup<D, E>;
  using Lane = Packed<T, E>;
  const MixerOutputGradients<float>& g;
  const MixerOutput<float>& p = g.forward;
  int column = Group::column();
  Channels<E> weight = load_floats<E>(p.weight + column), grad_weight = {};

  __device__ explicit OutputGradient(const MixerOutputGradients<float>& gradients) : g(gradients) {}

  // Of one side, at element `at` of the merged outputs; adds the gate's slope to `grad_gate`. `s`: its sigmoid, if there is one.
  __device__ void side(int64_t at, bool present, const Channels<E>& s, Channels<E>& grad_gate) {
    const Channels<E> o = Lane::load(static_cast<const T*>(p.merged) + at).unpack();
    Channels<E> dz = Lane::load(static_cast<const T*>(g.grad_y) + at).unpack();
    const float scale = rsqrtf(Group::sum(dot(o, o)) / D + p.eps);
    const Channels<E> n = product(scale, o);
    if (p.gate != nullptr) {
      Channels<E> slope;
#pragma unroll
      for (int i = 0; i < E; ++i) {
        slope.at[i] = s.at[i] * (1.f - s.at[i]);
      }
      add_product(grad_gate, product(dz, slope), product(n, weight));
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

  __device__ void row(int64_t row, bool present) {
    const int64_t safe = present ? row : 0;
    Channels<E> s = {}, grad_gate = {};
    if (p.gate != nullptr) {
      s = sigmoid(
          Lane::load(static_cast<const T*>(p.gate) + gate_offset(p, safe) + column).unpack());
    }
#pragma unroll
    for (int i = 0; i < (kApart ? 2 : 1); ++i) {
      side(side_row<kApart>(p, safe, i) * D + column, present, s, grad_gate);
    }
    if (p.gate != nullptr && present) {
      Lane::pack(grad_gate).store(static_cast<T*>(g.grad_gate) + safe * D + column);
    }
  }
};

template <typename T, int D, bool kApart>
__global__ void __launch_bounds__(kMixerThreads)
    mixer_output_backward_kernel(const __grid_constant__ MixerOutputGradients<float> g) {
  constexpr int E = kBackwardChannels;
  using Group = LaneGroup<D, E>;
  const MixerShape& shape = g.forward.shape;
  const int64_t rows = shape.batch * shape.length * shape.heads, partial = Group::group();
  OutputGradient<T, D, kApart> gradient(g);
  for (int64_t first = 0; first < rows; first += g.partials) {
    const int64_t row = first + partial;
    gradient.row(row, partial < g.partials && row < rows);
  }
  if (partial < g.partials) {
#pragma unroll
    for (int i = 0; i < E; ++i) {
      g.grad_weight[partial * D + gradient.column + i] = gradient.grad_weight.at[i];
    }
  }
}

}  // namespace comba::kernels::cuda
