// A thread has 16 bytes of columns and walks down some of the rows: its bias stays in registers, and so does its share of
// the bias's gradient.
#include "kernels/block/bias_gelu_kernels.h"
#include "kernels/cuda/mixer_lanes.cuh"

#include <algorithm>

namespace comba::kernels::cuda {
namespace {

constexpr int kLanes = 32, kWarps = 8;
constexpr int kBlocks = 8;  // an SM, in flight

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
  __device__ float slope(float u) const { return fmaf(0.39894228040143268f * density, u, below); }
};

template <typename T>
struct Columns {
  static constexpr int E = 16 / sizeof(T);
  using Lane = Packed<T, E>;
  const int64_t first = (int64_t{blockIdx.x} * kLanes + threadIdx.x) * E;
  const int64_t stride = int64_t{gridDim.y} * kWarps;
  Channels<E> bias = {};

  __device__ explicit Columns(const BiasGeluParams& p) {
    if (first < p.width && p.bias != nullptr) {
      bias = load_floats<E>(p.bias + first);
    }
  }
  // The threads beyond the width have no rows. Two rows are asked for before the first is worked on.
  template <typename Load, typename Body>
  __device__ void walk(const BiasGeluParams& p, const Load& load, const Body& body) const {
    if (first >= p.width) {
      return;
    }
    int64_t row = int64_t{blockIdx.y} * kWarps + threadIdx.y;
    for (; row + stride < p.rows; row += 2 * stride) {
      const int64_t at = row * p.width + first, next = at + stride * p.width;
      const auto a = load(at), b = load(next);
      body(at, a);
      body(next, b);
    }
    if (row < p.rows) {
      const int64_t at = row * p.width + first;
      body(at, load(at));
    }
  }
};

template <typename T>
__global__ void __launch_bounds__(kLanes* kWarps, 3)
    bias_gelu_kernel(const __grid_constant__ BiasGeluParams p) {
  const Columns<T> columns(p);
  using Lane = typename Columns<T>::Lane;
  const auto load = [&](int64_t at) { return Lane::load(static_cast<const T*>(p.x) + at); };
  columns.walk(p, load, [&](int64_t at, const Lane& x) {
    auto u = x.unpack();
#pragma unroll
    for (int i = 0; i < Columns<T>::E; ++i) {
      const float x = u.at[i] + columns.bias.at[i];
      u.at[i] = x * Normal<T>(x).below;
    }
    Lane::pack(u).store(static_cast<T*>(p.y) + at);
  });
}

template <typename T>
__global__ void __launch_bounds__(kLanes* kWarps, 3)
    bias_gelu_backward_kernel(const __grid_constant__ BiasGeluParams p) {
  constexpr int E = Columns<T>::E;
  __shared__ float shared[kWarps][kLanes][E + 1];  // rows of lanes apart by an odd number of banks
  const Columns<T> columns(p);
  using Lane = typename Columns<T>::Lane;
  Channels<E> sums = {};
  struct Loaded {
    Lane x, grad;
  };
  const auto load = [&](int64_t at) {
    return Loaded{Lane::load(static_cast<const T*>(p.x) + at),
                  Lane::load(static_cast<const T*>(p.grad_y) + at)};
  };
  columns.walk(p, load, [&](int64_t at, const Loaded& loaded) {
    const auto x = loaded.x.unpack();
    auto grad = loaded.grad.unpack();
#pragma unroll
    for (int i = 0; i < E; ++i) {
      const float u = x.at[i] + columns.bias.at[i];
      grad.at[i] *= Normal<T>(u).slope(u);
      sums.at[i] += grad.at[i];
    }
    Lane::pack(grad).store(static_cast<T*>(p.grad_x) + at);
  });
  if (p.sums == nullptr) {
    return;
  }
#pragma unroll
  for (int i = 0; i < E; ++i) {
    shared[threadIdx.y][threadIdx.x][i] = sums.at[i];
  }
  __syncthreads();
  for (int n = static_cast<int>(threadIdx.y * kLanes + threadIdx.x); n < kLanes * E;
       n += kLanes * kWarps) {
    const int64_t column = int64_t{blockIdx.x} * kLanes * E + n;
    float sum = 0.f;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
      sum += shared[warp][n / E][n % E];
    }
    if (column < p.width) {
      p.sums[int64_t{blockIdx.y} * p.width + column] = sum;
    }
  }
}

unsigned column_blocks(Element element, int64_t width) {
  const int64_t columns = kLanes * (element == Element::float32 ? 4 : 8);
  return static_cast<unsigned>((width + columns - 1) / columns);
}

template <typename Call>
cudaError_t with_type(Element element, const Call& call) {
  switch (element) {
    case Element::float32:
      call(float());
      break;
    case Element::float16:
      call(__half());
      break;
    case Element::bfloat16:
      call(__nv_bfloat16());
      break;
  }
  return cudaGetLastError();
}

dim3 grid(Element element, const BiasGeluParams& p) {
  return {column_blocks(element, p.width), static_cast<unsigned>(p.partials)};
}

}  // namespace

cudaError_t launch_bias_gelu(Element element, const BiasGeluParams& p, cudaStream_t stream) {
  return with_type(element, [&](auto x) {
    bias_gelu_kernel<decltype(x)><<<grid(element, p), dim3(kLanes, kWarps), 0, stream>>>(p);
  });
}

cudaError_t launch_bias_gelu_backward(Element element, const BiasGeluParams& p,
                                      cudaStream_t stream) {
  return with_type(element, [&](auto x) {
    bias_gelu_backward_kernel<decltype(x)>
        <<<grid(element, p), dim3(kLanes, kWarps), 0, stream>>>(p);
  });
}

int64_t bias_gelu_partials(Element element, const BiasGeluParams& p) {
  int device = 0, processors = 1;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  const int64_t fill = int64_t{processors} * kBlocks / column_blocks(element, p.width);
  return std::clamp<int64_t>((p.rows + kWarps - 1) / kWarps, 1, std::max<int64_t>(fill, 1));
}

}  // namespace comba::kernels::cuda
