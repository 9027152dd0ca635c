// A thread has 8 bytes of columns and walks over spans of tokens in the order of the sequence, with the last kConvTaps tokens,
// all taps and its share of their gradients in registers. It asks for kAhead rows at a time. What a span needs of its
// neighbours it computes again: the tokens before it and, backward, those after it, whose u its inputs go into:
//
//   du_t = dy_t, or dy_t s (1 + u_t (1 - s)), s = sigmoid(u_t)      dx_t = sum_j weight[3 - j] du_{t + j}
//   dweight[3 - j] = sum_t du_t x_{t - j}                           dbias = sum_t du_t
#include "kernels/block/causal_conv_kernels.h"
#include "kernels/block/columns.cuh"

#include <algorithm>

namespace comba::kernels::cuda {
namespace {

constexpr int kThreads = kColumnLanes * kColumnWarps;
constexpr int kSpan = 32;  // tokens
constexpr int kAhead = 4;
constexpr int kHalo = kConvTaps - 1;
static_assert(kConvTaps == kMixerTaps);

COMBA_HOST_DEVICE int64_t spans_of(const CausalConvParams& p) {
  return (p.length + kSpan - 1) / kSpan;
}

// The last kConvTaps values of a sequence, the latest last.
template <int E>
struct Window {
  Channels<E> at[kConvTaps] = {};

  __device__ void push(const Channels<E>& x) {
#pragma unroll
    for (int j = 0; j < kHalo; ++j) {
      at[j] = at[j + 1];
    }
    at[kHalo] = x;
  }
};

// One batch element's steps [begin, end), as a thread walks over them.
template <typename T>
struct Span {
  using Lane = typename Columns<T, kConvBytes>::Lane;
  const CausalConvParams& p;
  const int64_t first, batch, begin, end;

  // `index`: batch elements times spans, of about the same size
  __device__ Span(const CausalConvParams& params, int64_t first_column, int64_t index)
      : p(params),
        first(first_column),
        batch(index / spans_of(params)),
        begin(index % spans_of(params) * params.length / spans_of(params)),
        end((index % spans_of(params) + 1) * params.length / spans_of(params)) {}

  __device__ int64_t token(int64_t step) const { return p.reverse ? p.length - 1 - step : step; }
  // In a contiguous [B, T, channels].
  __device__ int64_t place(int64_t step) const {
    return (batch * p.length + token(step)) * p.channels + first;
  }
  // After the last step, that one again.
  __device__ Lane x(int64_t step) const {
    return Lane::load(static_cast<const T*>(p.x) + batch * p.batch_stride +
                      token(min(step, p.length - 1)) * p.time_stride + first);
  }
  __device__ Lane grad_y(int64_t step) const {
    return Lane::load(static_cast<const T*>(p.grad_y) + place(min(step, p.length - 1)));
  }
};

// A thread's taps and bias.
template <int E>
struct Filter {
  LaneTaps<E> taps;
  Channels<E> bias;

  __device__ Filter(const CausalConvParams& p, int64_t first)
      : taps(p.weight, first),
        bias(p.bias != nullptr ? load_floats<E>(p.bias + first) : Channels<E>{}) {}

  __device__ Channels<E> convolve(const Window<E>& x) const {
    Channels<E> u = bias;
#pragma unroll
    for (int j = 0; j < kConvTaps; ++j) {
      add_product(u, taps.w[j], x.at[j]);
    }
    return u;
  }
};

// The tokens before a span.
template <typename T, int E>
__device__ Window<E> window_before(const Span<T>& span) {
  Window<E> window;
#pragma unroll
  for (int j = kHalo; j > 0; --j) {
    window.push(span.begin >= j ? span.x(span.begin - j).unpack() : Channels<E>{});
  }
  return window;
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 3)
    causal_conv_kernel(const __grid_constant__ CausalConvParams p) {
  using Own = Columns<T, kConvBytes>;
  constexpr int E = Own::E;
  const Own columns;
  if (columns.first >= p.channels) {
    return;
  }
  const Filter<E> filter(p, columns.first);
  for (int64_t i = int64_t{blockIdx.y} * kColumnWarps + threadIdx.y; i < p.batch * spans_of(p);
       i += columns.stride) {
    const Span<T> span(p, columns.first, i);
    Window<E> window = window_before<T, E>(span);
    for (int64_t step = span.begin; step < span.end; step += kAhead) {
      typename Own::Lane rows[kAhead];
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        rows[k] = span.x(step + k);
      }
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        if (step + k < span.end) {
          window.push(rows[k].unpack());
          const Channels<E> u = filter.convolve(window);
          Own::Lane::pack(p.silu ? product(u, sigmoid(u)) : u)
              .store(static_cast<T*>(p.y) + span.place(step + k));
        }
      }
    }
  }
}

template <int E>
__device__ Channels<E> silu_slope(const Channels<E>& u) {
  Channels<E> slope = sigmoid(u);
#pragma unroll
  for (int i = 0; i < E; ++i) {
    slope.at[i] *= fmaf(u.at[i], 1.f - slope.at[i], 1.f);
  }
  return slope;
}

// A thread's way back over a span; `sums`: of the taps, then of the bias.
template <typename T, int E>
__device__ void walk_back(const Span<T>& span, const Filter<E>& filter,
                          Channels<E> (&sums)[kConvTaps + 1]) {
  using Lane = typename Span<T>::Lane;
  const CausalConvParams& p = span.p;
  Window<E> x = window_before<T, E>(span), du;
  for (int64_t step = span.begin; step < span.end + kHalo; step += kAhead) {
    Lane rows[kAhead], grads[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      rows[k] = span.x(step + k);
      grads[k] = span.grad_y(step + k);
    }
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const int64_t at = step + k;
      x.push(rows[k].unpack());
      Channels<E> grad = at < p.length ? grads[k].unpack() : Channels<E>{};
      if (p.silu) {
        grad = product(grad, silu_slope(filter.convolve(x)));
      }
      du.push(grad);
      if (at < span.end) {
#pragma unroll
        for (int j = 0; j < kConvTaps; ++j) {
          add_product(sums[j], grad, x.at[j]);
        }
#pragma unroll
        for (int i = 0; i < E; ++i) {
          sums[kConvTaps].at[i] += grad.at[i];
        }
      }
      if (at >= span.begin + kHalo && at < span.end + kHalo) {
        Channels<E> dx = {};
#pragma unroll
        for (int j = 0; j < kConvTaps; ++j) {
          add_product(dx, filter.taps.w[kHalo - j], du.at[j]);
        }
        Lane::pack(dx).store(static_cast<T*>(p.grad_x) + span.place(at - kHalo));
      }
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    causal_conv_backward_kernel(const __grid_constant__ CausalConvParams p) {
  using Own = Columns<T, kConvBytes>;
  constexpr int E = Own::E;
  const Own columns;
  Channels<E> sums[kConvTaps + 1] = {};
  if (columns.first < p.channels) {
    const Filter<E> filter(p, columns.first);
    for (int64_t i = int64_t{blockIdx.y} * kColumnWarps + threadIdx.y; i < p.batch * spans_of(p);
         i += columns.stride) {
      walk_back(Span<T>(p, columns.first, i), filter, sums);
    }
  }
#pragma unroll
  for (int j = 0; j <= kConvTaps; ++j) {
    Own::store_sums(sums[j], p.channels, p.sums + j * p.channels, (kConvTaps + 1) * p.channels);
    __syncthreads();  // the next sums go through the same shared memory
  }
}

// As many workers as there are spans, up to what fills the device.
int64_t workers(Element element, const CausalConvParams& p) {
  return row_blocks(element, p.batch * spans_of(p), p.channels, kConvBytes);
}
dim3 grid(Element element, const CausalConvParams& p, int64_t rows) {
  return {column_blocks(element, p.channels, kConvBytes), static_cast<unsigned>(rows)};
}

}  // namespace

bool causal_conv_takes(Element element, const CausalConvParams& p) {
  const int64_t size = element == Element::float32 ? 4 : 2;
  const auto whole = [&](int64_t elements) { return elements * size % kConvBytes == 0; };
  return whole(p.channels) && whole(p.batch_stride) && whole(p.time_stride) &&
         reinterpret_cast<uintptr_t>(p.x) % kConvBytes == 0;
}

cudaError_t launch_causal_conv(Element element, const CausalConvParams& p, cudaStream_t stream) {
  return with_element(element, [&](auto number) {
    causal_conv_kernel<decltype(number)>
        <<<grid(element, p, workers(element, p)), dim3(kColumnLanes, kColumnWarps), 0, stream>>>(p);
  });
}

cudaError_t launch_causal_conv_backward(Element element, const CausalConvParams& p,
                                        cudaStream_t stream) {
  return with_element(element, [&](auto number) {
    causal_conv_backward_kernel<decltype(number)>
        <<<grid(element, p, p.partials), dim3(kColumnLanes, kColumnWarps), 0, stream>>>(p);
  });
}

int64_t causal_conv_partials(Element element, const CausalConvParams& p) {
  return workers(element, p);
}

}  // namespace comba::kernels::cuda
