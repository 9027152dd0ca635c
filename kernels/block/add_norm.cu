// A warp has a row in registers, N pairs of neighbouring channels a lane, so that it is read once for its statistics and
// for what they are for.
#include "kernels/block/add_norm_kernels.h"
#include "kernels/cuda/mixer_lanes.cuh"

#include <algorithm>
#include <type_traits>

namespace comba::kernels::cuda {
namespace {

constexpr int kWarps = 8, kLanes = 32;
constexpr int kBackwardBlocks = 4;  // an SM

__device__ float warp_sum(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    x += __shfl_xor_sync(~0u, x, step);
  }
  return x;
}

template <typename T, int N>
struct Row {
  float2 at[N];  // pair i: channels 2 (lane + 32 i) and the next; zero beyond the width

  static __device__ int channel(int i) { return 2 * (static_cast<int>(threadIdx.x) + kLanes * i); }

  static __device__ Row load(const T* row, int width) {
    Row r;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const int c = channel(i);
      if (c < width) {
        const Channels<2> two = Packed<T, 2>::load(row + c).unpack();
        r.at[i] = make_float2(two.at[0], two.at[1]);
      } else {
        r.at[i] = make_float2(0.f, 0.f);
      }
    }
    return r;
  }
  __device__ void store(T* row, int width) const {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const int c = channel(i);
      if (c < width) {
        Packed<T, 2>::pack({at[i].x, at[i].y}).store(row + c);
      }
    }
  }
  // As it will be read again.
  __device__ void round() {
    if constexpr (!std::is_same_v<T, float>) {
#pragma unroll
      for (int i = 0; i < N; ++i) {
        at[i] = unpack_two(pack_two(at[i].x, at[i].y, T()), T());
      }
    }
  }
};

template <int N>
__device__ float total(const float2 (&x)[N]) {
  float sum = 0.f;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    sum += x[i].x + x[i].y;
  }
  return sum;
}
template <int N>
__device__ float dot(const float2 (&a)[N], const float2 (&b)[N]) {
  float sum = 0.f;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    sum = fmaf(a[i].x, b[i].x, fmaf(a[i].y, b[i].y, sum));
  }
  return sum;
}
// x - mean within the row.
template <typename T, int N>
__device__ void centre(Row<T, N>& row, float mean, int width) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    if (Row<T, N>::channel(i) < width) {
      row.at[i].x -= mean;
      row.at[i].y -= mean;
    }
  }
}

template <typename X, typename Y, int N>
__global__ void __launch_bounds__(kWarps* kLanes)
    add_norm_kernel(const __grid_constant__ AddNormParams p) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.y, at = row * p.width;
  if (row >= p.rows) {
    return;
  }
  using Sum = Row<X, N>;
  Sum sum = Sum::load(static_cast<const X*>(p.x) + at, p.width);
  if (p.branch != nullptr) {
    const auto branch = Row<Y, N>::load(static_cast<const Y*>(p.branch) + at, p.width);
    const float share = p.share != nullptr ? p.share[row / p.rows_a_share] : 1.f;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      sum.at[i].x = fmaf(share, branch.at[i].x, sum.at[i].x);
      sum.at[i].y = fmaf(share, branch.at[i].y, sum.at[i].y);
    }
    sum.store(static_cast<X*>(p.sum) + at, p.width);
    sum.round();
  }
  const float inverse = 1.f / static_cast<float>(p.width);
  if (p.centred) {
    centre(sum, warp_sum(total(sum.at)) * inverse, p.width);
  }
  const float scale = rsqrtf(fmaf(warp_sum(dot(sum.at, sum.at)), inverse, p.eps));
  const auto weight = Row<float, N>::load(p.weight, p.width);
  const auto bias = p.bias != nullptr ? Row<float, N>::load(p.bias, p.width) : Row<float, N>();
  Row<Y, N> y;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    y.at[i] =
        make_float2(sum.at[i].x * scale * weight.at[i].x, sum.at[i].y * scale * weight.at[i].y);
    if (p.bias != nullptr) {
      y.at[i].x += bias.at[i].x;
      y.at[i].y += bias.at[i].y;
    }
  }
  y.store(static_cast<Y*>(p.y) + at, p.width);
}

// A block's warps add up their sums over rows, one after another, and leave them in `target`.
template <int N>
__device__ void add_up(const float2 (&sums)[N], int width, float* target) {
  __shared__ float2 shared[kWarps][kLanes * N];
#pragma unroll
  for (int i = 0; i < N; ++i) {
    shared[threadIdx.y][threadIdx.x + kLanes * i] = sums[i];
  }
  __syncthreads();
  for (int pair = static_cast<int>(threadIdx.y * kLanes + threadIdx.x); pair < width / 2;
       pair += kWarps * kLanes) {
    float2 sum = shared[0][pair];
#pragma unroll
    for (int warp = 1; warp < kWarps; ++warp) {
      sum.x += shared[warp][pair].x;
      sum.y += shared[warp][pair].y;
    }
    reinterpret_cast<float2*>(target)[pair] = sum;
  }
  __syncthreads();
}

template <typename X, typename Y, int N>
__global__ void __launch_bounds__(kWarps* kLanes)
    add_norm_backward_kernel(const __grid_constant__ AddNormGradientParams g) {
  const AddNormParams& p = g.forward;
  const float inverse = 1.f / static_cast<float>(p.width);
  const auto weight = Row<float, N>::load(p.weight, p.width);
  float2 by_weight[N] = {}, by_bias[N] = {};
  const int64_t stride = g.partials * kWarps;
  for (int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.y; row < p.rows; row += stride) {
    const int64_t at = row * p.width;
    auto x = Row<X, N>::load(static_cast<const X*>(p.x) + at, p.width);
    const auto dy = Row<Y, N>::load(static_cast<const Y*>(g.grad_y) + at, p.width);
    Row<X, N> grad;
    if (g.grad_sum != nullptr) {
      grad = Row<X, N>::load(static_cast<const X*>(g.grad_sum) + at, p.width);
    }
    float2 given[N];  // to the normalised row
#pragma unroll
    for (int i = 0; i < N; ++i) {
      given[i] = make_float2(dy.at[i].x * weight.at[i].x, dy.at[i].y * weight.at[i].y);
    }
    float mean_given = 0.f;
    if (p.centred) {
      centre(x, warp_sum(total(x.at)) * inverse, p.width);
      mean_given = warp_sum(total(given)) * inverse;
    }
    const float square = warp_sum(dot(x.at, x.at)), along = warp_sum(dot(given, x.at));
    const float scale = rsqrtf(fmaf(square, inverse, p.eps));
    const float back = along * inverse * scale * scale;  // of x itself, before `scale`
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float2 own = make_float2(scale * (given[i].x - mean_given - back * x.at[i].x),
                                     scale * (given[i].y - mean_given - back * x.at[i].y));
      by_weight[i].x = fmaf(dy.at[i].x * scale, x.at[i].x, by_weight[i].x);
      by_weight[i].y = fmaf(dy.at[i].y * scale, x.at[i].y, by_weight[i].y);
      by_bias[i].x += dy.at[i].x;
      by_bias[i].y += dy.at[i].y;
      grad.at[i] =
          g.grad_sum != nullptr ? make_float2(grad.at[i].x + own.x, grad.at[i].y + own.y) : own;
    }
    grad.store(static_cast<X*>(g.grad_x) + at, p.width);
    if (g.grad_branch != nullptr) {
      const float share = p.share != nullptr ? p.share[row / p.rows_a_share] : 1.f;
      Row<Y, N> branch;
#pragma unroll
      for (int i = 0; i < N; ++i) {
        branch.at[i] = make_float2(share * grad.at[i].x, share * grad.at[i].y);
      }
      branch.store(static_cast<Y*>(g.grad_branch) + at, p.width);
    }
  }
  float* const sums = g.sums + int64_t{blockIdx.x} * 2 * p.width;
  add_up(by_weight, p.width, sums);
  add_up(by_bias, p.width, sums + p.width);
}

template <typename X, typename Y>
struct Launch {
  // Calls `call` with the number of pairs a lane has, as a constant.
  template <typename Call>
  static cudaError_t with_pairs(int width, const Call& call) {
    const int pairs = (width + 2 * kLanes - 1) / (2 * kLanes);
    if (pairs <= 2) {
      call(std::integral_constant<int, 2>());
    } else if (pairs == 3) {
      call(std::integral_constant<int, 3>());
    } else if (pairs <= 6) {
      call(std::integral_constant<int, 6>());
    } else if (pairs <= 12) {
      call(std::integral_constant<int, 12>());
    } else {
      call(std::integral_constant<int, kAddNormWidth / (2 * kLanes)>());
    }
    return cudaGetLastError();
  }
  static constexpr dim3 block() { return {kLanes, kWarps}; }

  static cudaError_t forward(const AddNormParams& p, cudaStream_t stream) {
    const auto blocks = static_cast<unsigned>((p.rows + kWarps - 1) / kWarps);
    return with_pairs(p.width, [&](auto pairs) {
      add_norm_kernel<X, Y, decltype(pairs)::value><<<blocks, block(), 0, stream>>>(p);
    });
  }
  static cudaError_t backward(const AddNormGradientParams& p, cudaStream_t stream) {
    const auto blocks = static_cast<unsigned>(p.partials);
    return with_pairs(p.forward.width, [&](auto pairs) {
      add_norm_backward_kernel<X, Y, decltype(pairs)::value><<<blocks, block(), 0, stream>>>(p);
    });
  }
};

template <typename Call>
cudaError_t with_types(Element x, Element y, const Call& call) {
  if (y == Element::float32) {
    return call(Launch<float, float>());
  }
  if (y == Element::bfloat16) {
    return x == y ? call(Launch<__nv_bfloat16, __nv_bfloat16>())
                  : call(Launch<float, __nv_bfloat16>());
  }
  return x == y ? call(Launch<__half, __half>()) : call(Launch<float, __half>());
}

}  // namespace

cudaError_t launch_add_norm(Element x, Element y, const AddNormParams& p, cudaStream_t stream) {
  return with_types(x, y, [&](auto launch) { return decltype(launch)::forward(p, stream); });
}

cudaError_t launch_add_norm_backward(Element x, Element y, const AddNormGradientParams& p,
                                     cudaStream_t stream) {
  return with_types(x, y, [&](auto launch) { return decltype(launch)::backward(p, stream); });
}

int64_t add_norm_partials(int64_t rows) {
  int device = 0, processors = 1;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  return std::min<int64_t>((rows + kWarps - 1) / kWarps, int64_t{processors} * kBackwardBlocks);
}

}  // namespace comba::kernels::cuda
