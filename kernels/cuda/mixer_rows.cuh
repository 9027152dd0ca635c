// q_r, k_r, v_r of both directions from the raw projections, and back: short convolution, SiLU, L2 norm (mixer.h).
//
// A group of lanes walks a strip of tokens of one head; the last four tokens stay in registers, so a token is read once
// for all taps. Four tokens are asked for at a time, before the four that came earlier are used.
#pragma once

#include "kernels/cuda/mixer_cuda.h"
#include "kernels/cuda/mixer_lanes.cuh"
#include "kernels/mixer_params.h"

namespace comba::kernels::cuda {

constexpr int kRowsBlocks = 4, kRowsBackwardBlocks = 2;  // an SM, that registers are kept for

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
};

__device__ inline int64_t taps_channel(const MixerShape& s, int direction, int part, int64_t head,
                                       int column) {
  return ((direction * 3 + part) * s.heads + head) * s.dim + column;
}

// One group's place: head, strip of a sample; heads are neighbours in memory and so are their groups. The part (q, k or
// v) is the block's, so that a block sums over rows or does not.
struct StripPlace {
  int64_t head, sample;
  int first;  // first token

  __device__ StripPlace(const MixerShape& s, const Strips& strips, int64_t item) {
    head = item % s.heads;
    item /= s.heads;
    first = static_cast<int>(item % strips.count) * strips.size;
    sample = item / strips.count;
  }
};

template <typename T, int D>
__global__ void __launch_bounds__(kMixerThreads, kRowsBlocks)
    mixer_rows_kernel(const __grid_constant__ MixerRows<float> p, const Strips strips) {
  constexpr int E = kForwardChannels<D>;
  using Group = LaneGroup<D, E>;
  using Lane = Packed<T, E>;
  const MixerShape& s = p.shape;
  const int part = blockIdx.y % 3, direction = blockIdx.y / 3;
  const bool reversed = direction == 1, normalize = p.normalize && part < 2;
  StripPlace place(s, strips, Group::group());
  const bool present = place.sample < s.batch;
  if (!present) {
    place = StripPlace(s, strips, 0);
  }
  const int column = Group::column(), length = static_cast<int>(s.length);
  const LaneTaps<E> taps(p.taps, taps_channel(s, direction, part, place.head, column));
  const int64_t start = reversed ? s.length - 1 - place.first : place.first;
  const int64_t in = reversed ? -p.time_stride : p.time_stride;
  const int64_t out = reversed ? -s.heads * D : s.heads * D;
  const T* const x = static_cast<const T*>(p.qkv) + place.sample * p.batch_stride +
                     part * p.part_stride + place.head * p.head_stride + start * p.time_stride +
                     column;
  T* const y =
      static_cast<T*>(p.rows[part]) +
      (((direction * s.batch + place.sample) * s.length + start) * s.heads + place.head) * D +
      column;
  // Token n of the strip in the direction's order, from -3 on.
  const int before = -place.first, end = present ? length - place.first : 0;
  const auto load = [&](int n) { return n >= before && n < end ? Lane::load(x + n * in) : Lane{}; };
  Lane ahead[4];
  Channels<E> window[4];
#pragma unroll
  for (int n = 0; n < 3; ++n) {
    window[n] = load(n - 3).unpack();
  }
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    ahead[n] = load(n);
  }
  for (int n = 0; n < strips.size; n += 4) {
    Lane now[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      now[k] = ahead[k];
      ahead[k] = n + 4 < strips.size ? load(n + k + 4) : Lane{};
    }
    Channels<E> u[4] = {};
    float squares[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      window[(k + 3) % 4] = now[k].unpack();
#pragma unroll
      for (int j = 0; j < kMixerTaps; ++j) {
        add_product(u[k], taps.w[j], window[(k + j) % 4]);
      }
      u[k] = product(u[k], sigmoid(u[k]));
      squares[k] = dot(u[k], u[k]);
    }
    if (normalize) {
      Group::sum_all({&squares[0], &squares[1], &squares[2], &squares[3]});
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const float scale = normalize ? rsqrtf(squares[k] + static_cast<float>(kRowNormEps)) : 1.f;
      if (n + k < end) {
        Lane::pack(product(scale, u[k])).store(y + (n + k) * out);
      }
    }
  }
}

// The gradient of a direction's convolution output at one token. First what is summed over the row, then the rest.
template <int E>
struct RowGradient {
  Channels<E> pre = {}, s, grad;
  float square, along;

  // x[(first + j) % 4]: the four tokens by time.
  template <bool kReversed>
  __device__ void begin(const Channels<E> (&x)[4], int first, const LaneTaps<E>& taps,
                        const Channels<E>& given) {
#pragma unroll
    for (int j = 0; j < kMixerTaps; ++j) {
      add_product(pre, taps.w[j], x[(first + (kReversed ? kMixerTaps - 1 - j : j)) % 4]);
    }
    s = sigmoid(pre);
    grad = given;
    const Channels<E> u = product(pre, s);
    square = dot(u, u);
    along = dot(u, grad);
  }
  __device__ Channels<E> end(bool normalized) {
    const float scale = normalized ? rsqrtf(square + static_cast<float>(kRowNormEps)) : 1.f;
    const float part = normalized ? -along * scale * scale : 0.f;
    Channels<E> out;
#pragma unroll
    for (int i = 0; i < E; ++i) {
      const float u = pre.at[i] * s.at[i];
      out.at[i] = scale * fmaf(part, u, grad.at[i]) * s.at[i] * fmaf(pre.at[i], 1.f - s.at[i], 1.f);
    }
    return out;
  }
};

// One group of the backward pass: a part of one head, some of the samples' strips.
template <typename T, int D>
struct RowsBackward {
  static constexpr int E = kBackwardChannels;
  using Group = LaneGroup<D, E>;
  using Lane = Packed<T, E>;
  const MixerRowGradients<float>& g;
  const MixerRows<float>& p = g.forward;
  const MixerShape& s = p.shape;
  int64_t partial, head;
  int part, column;
  bool present, normalize;
  LaneTaps<E> taps[2];
  Channels<E> grad_taps[2][kMixerTaps] = {};

  __device__ explicit RowsBackward(const MixerRowGradients<float>& gradients)
      : g(gradients),
        partial(Group::group() / s.heads),
        head(Group::group() % s.heads),
        part(blockIdx.y),
        column(Group::column()),
        present(partial < g.partials),
        normalize(p.normalize && part < 2),
        taps{LaneTaps<E>(p.taps, taps_channel(s, 0, part, head, column)),
             LaneTaps<E>(p.taps, taps_channel(s, 1, part, head, column))} {}

  // At step n the tokens n .. n + 3 give the forward direction's gradient at n + 3 and the other's at n; with those of
  // the last steps they make dx at n. Four steps more than tokens; the taps' sums count every token once.
  __device__ void walk(int64_t sample, int first, int size, bool active) {
    const int before = -first, end = active ? static_cast<int>(s.length) - first : before;
    const T* const x = static_cast<const T*>(p.qkv) + sample * p.batch_stride +
                       part * p.part_stride + head * p.head_stride + first * p.time_stride + column;
    const int64_t stride = s.heads * D, rows = s.batch * s.length * stride;
    const int64_t row = ((sample * s.length + first) * s.heads + head) * D + column;
    const T* const grads = static_cast<const T*>(g.grad_rows[part]) + row;
    T* const target = static_cast<T*>(g.grad_qkv) +
                      (((sample * s.length + first) * 3 + part) * s.heads + head) * D + column;
    const auto exists = [&](int n) { return n >= before && n < end; };
    // Slots turn with n: that of token n + 3, and of both gradients at step n, is (n + 3) % 4 counted from -4.
    Channels<E> window[4], later[4] = {}, earlier[4] = {};
#pragma unroll
    for (int k = 0; k < 3; ++k) {
      window[k] = (exists(k - 4) ? Lane::load(x + (k - 4) * p.time_stride) : Lane{}).unpack();
    }
    for (int base = -4; base < size; base += 4) {
      Lane tokens[4], up[4], down[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const int n = base + k;
        tokens[k] = exists(n + 3) ? Lane::load(x + (n + 3) * p.time_stride) : Lane{};
        up[k] = exists(n + 3) ? Lane::load(grads + (n + 3) * stride) : Lane{};
        down[k] = exists(n) ? Lane::load(grads + rows + n * stride) : Lane{};
      }
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const int n = base + k, newest = (k + 3) % 4;
        window[newest] = tokens[k].unpack();
        RowGradient<E> forward, reverse;
        forward.template begin<false>(window, k, taps[0], up[k].unpack());
        reverse.template begin<true>(window, k, taps[1], down[k].unpack());
        if (normalize) {
          Group::sum_all({&forward.square, &forward.along, &reverse.square, &reverse.along});
        }
        later[newest] = forward.end(normalize);
        earlier[newest] = reverse.end(normalize);
        Channels<E> dx = {};
#pragma unroll
        for (int j = 0; j < kMixerTaps; ++j) {
          if (n + 3 >= 0 && n + 3 < size) {
            add_product(grad_taps[0][j], later[newest], window[(k + j) % 4]);
          }
          if (n >= 0) {
            add_product(grad_taps[1][j], earlier[newest], window[(k + 3 - j) % 4]);
          }
          add_product(dx, taps[0].w[j], later[(k + 3 - j) % 4]);
          add_product(dx, taps[1].w[j], earlier[(k + j) % 4]);
        }
        if (n >= 0 && n < end) {
          Lane::pack(dx).store(target + n * 3 * stride);
        }
      }
    }
  }

  __device__ void store_taps() const {
#pragma unroll
    for (int direction = 0; direction < 2; ++direction) {
      const Channels<E>(&w)[kMixerTaps] = grad_taps[direction];
      auto* const target = reinterpret_cast<float4*>(g.grad_taps) + partial * 6 * s.heads * D +
                           taps_channel(s, direction, part, head, column);
#pragma unroll
      for (int i = 0; i < E; ++i) {
        target[i] = make_float4(w[0].at[i], w[1].at[i], w[2].at[i], w[3].at[i]);
      }
    }
  }
};

template <typename T, int D>
__global__ void __launch_bounds__(kMixerThreads, kRowsBackwardBlocks)
    mixer_rows_backward_kernel(const __grid_constant__ MixerRowGradients<float> g,
                               const Strips strips) {
  RowsBackward<T, D> group(g);
  const int64_t items = group.s.batch * strips.count;
  for (int64_t first = 0; first < items; first += g.partials) {
    const int64_t item = first + group.partial;
    const bool active = group.present && item < items;
    group.walk(active ? item / strips.count : 0,
               active ? static_cast<int>(item % strips.count) * strips.size : 0, strips.size,
               active);
  }
  if (group.present) {
    group.store_taps();
  }
}

}  // namespace comba::kernels::cuda
