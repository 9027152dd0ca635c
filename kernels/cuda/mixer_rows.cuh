// q_r, k_r, v_r of both directions from the raw projections, and back: short convolution, SiLU, L2 norm (mixer.h).
//
// A group of lanes walks a strip of tokens of one head; the last four tokens stay in registers, so a token is read once
// for all taps of both directions. Four tokens are asked for at a time, before the four that came earlier are used.
#pragma once

#include "kernels/cuda/mixer_cuda.h"
#include "kernels/cuda/mixer_lanes.cuh"
#include "kernels/mixer_params.h"

namespace comba::kernels::cuda {

constexpr int kRowsBlocks = 5, kRowsBackwardBlocks = 3;  // an SM, that registers are kept for

__device__ inline int64_t taps_channel(const MixerShape& s, int direction, int part, int64_t head,
                                       int column) {
  return ((direction * 3 + part) * s.heads + head) * s.dim + column;
}

// The forward pass: a group of lanes, one part of one head, a strip of steps of a sample. At step n the tokens n .. n + 3
// give the forward direction's row n + 3 and the other's row n: each is read once for both. Steps go from -3 to T - 1.
template <typename T, int D>
struct RowsForward {
  static constexpr int E = kRowsChannels;
  static constexpr int kStepsAtOnce = 2;  // whose sums over a row hide each other's latency
  using Group = LaneGroup<D, E>;
  using Lane = Packed<T, E>;
  const MixerRows<float>& p;
  const MixerShape& s = p.shape;
  int part, column, first, length;
  int64_t head, sample;
  bool normalize;
  LaneTaps<E> taps[2];

  // Heads are neighbours in memory and so are their groups. The part is the block's, so that a block sums over rows or
  // does not; `length` is 0 where there is no such strip.
  __device__ RowsForward(const MixerRows<float>& rows, const Strips& strips, int64_t strip)
      : p(rows),
        part(blockIdx.y),
        column(Group::column()),
        first(static_cast<int>(strip % strips.count) * strips.size - (kMixerTaps - 1)),
        length(strip < s.batch * strips.count ? static_cast<int>(s.length) : 0),
        head(Group::group() % s.heads),
        sample(length > 0 ? strip / strips.count : 0),
        normalize(p.normalize && part < 2),
        taps{LaneTaps<E>(p.taps, taps_channel(s, 0, part, head, column)),
             LaneTaps<E>(p.taps, taps_channel(s, 1, part, head, column))} {}

  __device__ void walk(int steps) const {
    const T* const x = static_cast<const T*>(p.qkv) + sample * p.batch_stride +
                       part * p.part_stride + head * p.head_stride + column;
    const int64_t stride = s.heads * D;
    T* const y = static_cast<T*>(p.rows[part]) + (sample * s.length * s.heads + head) * D + column;
    T* const other = y + s.batch * s.length * stride;
    const auto load = [&](int t) {
      return t >= 0 && t < length ? Lane::load(x + t * p.time_stride) : Lane{};
    };
    Lane ahead[4];
    Channels<E> window[4];  // token n + j at step n: (n - first + j) % 4
#pragma unroll
    for (int k = 0; k < 3; ++k) {
      window[k] = load(first + k).unpack();
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      ahead[k] = load(first + k + 3);
    }
    for (int from = first; from < first + steps; from += 4) {
      Lane now[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        now[k] = ahead[k];
        ahead[k] = load(from + k + 7);
      }
#pragma unroll
      for (int k = 0; k < 4; k += kStepsAtOnce) {
        Channels<E> u[kStepsAtOnce][2] = {};
        float squares[kStepsAtOnce][2];
#pragma unroll
        for (int m = 0; m < kStepsAtOnce; ++m) {
          window[(k + m + 3) % 4] = now[k + m].unpack();
#pragma unroll
          for (int j = 0; j < kMixerTaps; ++j) {
            add_product(u[m][0], taps[0].w[j], window[(k + m + j) % 4]);
            add_product(u[m][1], taps[1].w[j], window[(k + m + 3 - j) % 4]);
          }
#pragma unroll
          for (int direction = 0; direction < 2; ++direction) {
            Channels<E>& row = u[m][direction];
            row = product(row, sigmoid(row));
            squares[m][direction] = dot(row, row);
          }
        }
        if (normalize) {
          Group::sum_all(squares);
        }
#pragma unroll
        for (int m = 0; m < kStepsAtOnce; ++m) {
          const int t = from + k + m;
          store(y + (t + 3) * stride, u[m][0], squares[m][0], t + 3 >= 0 && t + 3 < length);
          store(other + t * stride, u[m][1], squares[m][1], t >= 0 && t < length);
        }
      }
    }
  }
  __device__ void store(T* at, const Channels<E>& u, float square, bool present) const {
    const float scale = normalize ? rsqrtf(square + static_cast<float>(kRowNormEps)) : 1.f;
    if (present) {
      Lane::pack(product(scale, u)).store(at);
    }
  }
};

template <typename T, int D>
__global__ void __launch_bounds__(kMixerThreads, kRowsBlocks)
    mixer_rows_kernel(const __grid_constant__ MixerRows<float> p, const Strips strips) {
  const int64_t strip = RowsForward<T, D>::Group::group() / p.shape.heads;
  RowsForward<T, D>(p, strips, strip).walk(strips.size);
}

// The gradient of a direction's convolution output at one token. First what is summed over the row, then the rest.
template <int E>
struct RowGradient {
  Channels<E> u, slope, grad;  // SiLU, its derivative, what the row was given

  // x[(first + j) % 4]: the four tokens by time. `sums`: <u, u> and <u, given>.
  template <bool kReversed>
  __device__ void begin(const Channels<E> (&x)[4], int first, const LaneTaps<E>& taps,
                        const Channels<E>& given, float (&sums)[2]) {
    u = {};
#pragma unroll
    for (int j = 0; j < kMixerTaps; ++j) {
      add_product(u, taps.w[j], x[(first + (kReversed ? kMixerTaps - 1 - j : j)) % 4]);
    }
#pragma unroll
    for (int i = 0; i < E; ++i) {
      const float s = sigmoid(u.at[i]);
      u.at[i] *= s;
      slope.at[i] = fmaf(u.at[i], 1.f - s, s);
    }
    grad = given;
    sums[0] = dot(u, u);
    sums[1] = dot(u, grad);
  }
  __device__ Channels<E> end(bool normalized, const float (&sums)[2]) const {
    const float scale = normalized ? rsqrtf(sums[0] + static_cast<float>(kRowNormEps)) : 1.f;
    const float part = normalized ? -sums[1] * scale * scale * scale : 0.f;
    Channels<E> out;
#pragma unroll
    for (int i = 0; i < E; ++i) {
      out.at[i] = fmaf(part, u.at[i], scale * grad.at[i]) * slope.at[i];
    }
    return out;
  }
};

// One group of the backward pass: a part of one head, some of the samples' strips.
template <typename T, int D>
struct RowsBackward {
  static constexpr int E = kRowsChannels;
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
        float sums[2][2];  // of both
        forward.template begin<false>(window, k, taps[0], up[k].unpack(), sums[0]);
        reverse.template begin<true>(window, k, taps[1], down[k].unpack(), sums[1]);
        if (normalize) {
          Group::sum_all(sums);
        }
        later[newest] = forward.end(normalize, sums[0]);
        earlier[newest] = reverse.end(normalize, sums[1]);
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
