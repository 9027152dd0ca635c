// q_r, k_r, v_r of both directions from the raw projections, and back: short convolution, SiLU, L2 norm (mixer.h).
//
// A group of D / 4 lanes, four channels each, walks a strip of tokens of one head; the last four tokens stay in
// registers, so a token is read once for all taps.
#pragma once

#include "kernels/cuda/mixer_cuda.h"
#include "kernels/cuda/mixer_lanes.cuh"
#include "kernels/mixer_params.h"

namespace comba::kernels::cuda {

constexpr int kMixerTaps = 4, kMixerThreads = 128;

// Four channels' taps of one direction; fewer taps than four meet the later tokens.
struct LaneTaps {
  float4 w[kMixerTaps];

  __device__ LaneTaps(const MixerShape& shape, const float* taps, int64_t channel) {
    const int count = static_cast<int>(shape.taps);
#pragma unroll
    for (int j = 0; j < kMixerTaps; ++j) {
      const int own = j - (kMixerTaps - count);
      const float* const at = taps + channel * count + own;
      w[j] = own < 0 ? make_float4(0.f, 0.f, 0.f, 0.f)
                     : make_float4(at[0], at[count], at[2 * count], at[3 * count]);
    }
  }
};

__device__ inline int64_t taps_channel(const MixerShape& s, int direction, int part, int64_t head,
                                       int lane) {
  return ((direction * 3 + part) * s.heads + head) * s.dim + 4 * lane;
}

// One group's place: part, head, strip of a sample; heads are neighbours in memory and so are their groups.
struct StripPlace {
  int64_t head, sample, first;  // first token
  int part;

  __device__ StripPlace(const MixerShape& s, int64_t item) {
    const int64_t strips = (s.length + kMixerStrip - 1) / kMixerStrip;
    head = item % s.heads;
    item /= s.heads;
    part = static_cast<int>(item % 3);
    item /= 3;
    first = item % strips * kMixerStrip;
    sample = item / strips;
  }
};

template <typename T, int D>
__global__ void __launch_bounds__(kMixerThreads)
    mixer_rows_kernel(const __grid_constant__ MixerRows<float> p) {
  using Group = LaneGroup<D>;
  const MixerShape& s = p.shape;
  const int direction = blockIdx.y;
  const int64_t item = int64_t{blockIdx.x} * Group::kPerBlock + threadIdx.x / Group::kLanes;
  const StripPlace place(s, item);
  const bool present = place.sample < s.batch;
  const int lane = threadIdx.x % Group::kLanes;
  const LaneTaps taps(s, p.taps,
                      present ? taps_channel(s, direction, place.part, place.head, lane) : 0);
  const T* const x = static_cast<const T*>(p.qkv) + place.sample * p.batch_stride +
                     place.part * p.part_stride + place.head * p.head_stride + 4 * lane;
  T* const y = static_cast<T*>(p.rows[place.part]) +
               ((direction * s.batch + place.sample) * s.length * s.heads + place.head) * D +
               4 * lane;
  // Token n of the strip in the direction's order, from -3 on.
  const auto time = [&](int n) {
    return direction == 0 ? place.first + n : s.length - 1 - place.first - n;
  };
  const auto load = [&](int n) {
    const int64_t t = time(n);
    return present && t >= 0 && t < s.length ? Four<T>::load(x + t * p.time_stride)
                                             : Four<T>::zero();
  };
  typename Four<T>::Packed ahead[4];
  float4 window[4];
#pragma unroll
  for (int n = 0; n < 3; ++n) {
    window[n] = Four<T>::unpack(load(n - 3));
  }
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    ahead[n] = load(n);
  }
  const bool normalize = p.normalize && place.part < 2;
  for (int n = 0; n < kMixerStrip; n += 4) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      window[(k + 3) % 4] = Four<T>::unpack(ahead[k]);
      ahead[k] = load(n + k + 4);
      float4 u = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
      for (int j = 0; j < kMixerTaps; ++j) {
        u = fma4(taps.w[j], window[(k + j) % 4], u);
      }
      u = mul4(u, sigmoid4(u));
      if (normalize) {
        u = scale4(rsqrtf(Group::sum(dot4(u, u)) + static_cast<float>(kRowNormEps)), u);
      }
      const int64_t t = time(n + k);
      if (present && t >= 0 && t < s.length) {
        Four<T>::store(y + t * s.heads * D, u);
      }
    }
  }
}

// The gradient of one direction's convolution output at one token.
template <int D>
__device__ float4 row_gradient(const float4 (&x)[4], const LaneTaps& taps, float4 grad,
                               bool reversed, bool normalize) {
  float4 pre = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
  for (int j = 0; j < kMixerTaps; ++j) {
    pre = fma4(taps.w[j], x[reversed ? kMixerTaps - 1 - j : j], pre);
  }
  const float4 sigmoid = sigmoid4(pre);
  if (normalize) {
    const float4 u = mul4(pre, sigmoid);
    const float scale =
        rsqrtf(LaneGroup<D>::sum(dot4(u, u)) + static_cast<float>(kRowNormEps));
    const float along = LaneGroup<D>::sum(dot4(u, grad)) * scale * scale;
    grad = scale4(scale, fma4(make_float4(-along, -along, -along, -along), u, grad));
  }
  const auto slope = [](float p, float s) { return s * (1.f + p * (1.f - s)); };
  return make_float4(grad.x * slope(pre.x, sigmoid.x), grad.y * slope(pre.y, sigmoid.y),
                     grad.z * slope(pre.z, sigmoid.z), grad.w * slope(pre.w, sigmoid.w));
}

// At step t the tokens t .. t + 3 give the forward direction's gradient at t + 3 and the other's at t; with those of the
// last steps they make dx at t. Three steps more than tokens in a strip; the taps' sums count every token once.
template <typename T, int D>
__global__ void __launch_bounds__(kMixerThreads)
    mixer_rows_backward_kernel(const __grid_constant__ MixerRowGradients<float> g) {
  using Group = LaneGroup<D>;
  const MixerRows<float>& p = g.forward;
  const MixerShape& s = p.shape;
  const int lane = threadIdx.x % Group::kLanes;
  const int64_t group = int64_t{blockIdx.x} * Group::kPerBlock + threadIdx.x / Group::kLanes;
  const int64_t columns = 3 * s.heads, partial = group / columns;
  const int64_t head = group % columns % s.heads;
  const int part = static_cast<int>(group % columns / s.heads);
  const bool present = partial < g.partials;
  const bool normalize = p.normalize && part < 2;
  const int64_t channel[2] = {taps_channel(s, 0, part, present ? head : 0, lane),
                              taps_channel(s, 1, part, present ? head : 0, lane)};
  const LaneTaps taps[2] = {LaneTaps(s, p.taps, channel[0]), LaneTaps(s, p.taps, channel[1])};
  float4 grad_taps[2][kMixerTaps] = {};
  const float4 zero = make_float4(0.f, 0.f, 0.f, 0.f);
  const int64_t strips = (s.length + kMixerStrip - 1) / kMixerStrip, items = s.batch * strips;

  for (int64_t first_item = 0; first_item < items; first_item += g.partials) {
    const int64_t item = first_item + partial;
    const bool active = present && item < items;
    const int64_t sample = item / strips, first = item % strips * kMixerStrip;
    const T* const x = static_cast<const T*>(p.qkv) + sample * p.batch_stride +
                       part * p.part_stride + head * p.head_stride + 4 * lane;
    const auto exists = [&](int64_t t) { return active && t >= 0 && t < s.length; };
    const auto load = [&](int64_t t) {
      return exists(t) ? Four<T>::unpack(Four<T>::load(x + t * p.time_stride)) : zero;
    };
    const auto load_grad = [&](int direction, int64_t t) {
      const T* const rows = static_cast<const T*>(g.grad_rows[part]);
      const int64_t row =
          ((direction * s.batch + sample) * s.length + t) * s.heads + head;
      return exists(t) ? Four<T>::unpack(Four<T>::load(rows + row * D + 4 * lane)) : zero;
    };
    float4 window[4], later[4] = {}, earlier[4] = {};  // x at t .. t + 3; gradients at t .. t + 3, t - 3 .. t
#pragma unroll
    for (int n = 0; n < 3; ++n) {
      window[n + 1] = load(first - 3 + n);
    }
    for (int n = -3; n < kMixerStrip; ++n) {
      const int64_t t = first + n;
#pragma unroll
      for (int k = 0; k < 3; ++k) {
        window[k] = window[k + 1];
        later[k] = later[k + 1];
        earlier[k] = earlier[k + 1];
      }
      window[3] = load(t + 3);
      const float4 up = row_gradient<D>(window, taps[0], load_grad(0, t + 3), false, normalize);
      const float4 down = row_gradient<D>(window, taps[1], load_grad(1, t), true, normalize);
      later[3] = exists(t + 3) ? up : zero;
      earlier[3] = exists(t) ? down : zero;
      float4 dx = zero;
#pragma unroll
      for (int j = 0; j < kMixerTaps; ++j) {
        if (n + 3 < kMixerStrip) {
          grad_taps[0][j] = fma4(later[3], window[j], grad_taps[0][j]);
        }
        if (n >= 0) {
          grad_taps[1][j] = fma4(earlier[3], window[kMixerTaps - 1 - j], grad_taps[1][j]);
        }
        dx = fma4(taps[0].w[j], later[kMixerTaps - 1 - j], dx);
        dx = fma4(taps[1].w[j], earlier[j], dx);
      }
      if (n >= 0 && exists(t)) {
        T* const target = static_cast<T*>(g.grad_qkv) +
                          (((sample * s.length + t) * 3 + part) * s.heads + head) * D + 4 * lane;
        Four<T>::store(target, dx);
      }
    }
  }
  if (!present) {
    return;
  }
  const int count = static_cast<int>(s.taps);
#pragma unroll
  for (int direction = 0; direction < 2; ++direction) {
    float* const target =
        g.grad_taps + (partial * 6 * s.heads * D + channel[direction]) * count;
#pragma unroll
    for (int j = 0; j < kMixerTaps; ++j) {
      const int own = j - (kMixerTaps - count);
      if (own >= 0) {
        const float4 w = grad_taps[direction][j];
        target[own] = w.x;
        target[own + count] = w.y;
        target[own + 2 * count] = w.z;
        target[own + 3 * count] = w.w;
      }
    }
  }
}

}  // namespace comba::kernels::cuda
