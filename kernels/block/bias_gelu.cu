// A thread has 16 bytes of columns and walks down some of the rows: its bias stays in registers, and so does its share of
// the bias's gradient.
#include "kernels/block/bias_gelu_kernels.h"
#include "kernels/block/columns.cuh"
#include "kernels/block/normal.cuh"

namespace comba::kernels::cuda {
namespace {

constexpr int kThreads = kColumnLanes * kColumnWarps;

// A thread's share of the bias.
template <typename T>
__device__ Channels<Columns<T>::E> bias_of(const Columns<T>& columns, const BiasGeluParams& p) {
  return columns.first < p.width && p.bias != nullptr
             ? load_floats<Columns<T>::E>(p.bias + columns.first)
             : Channels<Columns<T>::E>{};
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 3)
    bias_gelu_kernel(const __grid_constant__ BiasGeluParams p) {
  const Columns<T> columns;
  const auto bias = bias_of(columns, p);
  using Lane = typename Columns<T>::Lane;
  const auto load = [&](int64_t at) { return Lane::load(static_cast<const T*>(p.x) + at); };
  columns.walk(p.rows, p.width, load, [&](int64_t at, const Lane& x) {
    auto u = x.unpack();
#pragma unroll
    for (int i = 0; i < Columns<T>::E; ++i) {
      const float x = u.at[i] + bias.at[i];
      u.at[i] = x * Normal<T>(x).below;
    }
    Lane::pack(u).store(static_cast<T*>(p.y) + at);
  });
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 3)
    bias_gelu_backward_kernel(const __grid_constant__ BiasGeluParams p) {
  constexpr int E = Columns<T>::E;
  const Columns<T> columns;
  const auto bias = bias_of(columns, p);
  using Lane = typename Columns<T>::Lane;
  Channels<E> sums = {};
  struct Loaded {
    Lane x, grad;
  };
  const auto load = [&](int64_t at) {
    return Loaded{Lane::load(static_cast<const T*>(p.x) + at),
                  Lane::load(static_cast<const T*>(p.grad_y) + at)};
  };
  columns.walk(p.rows, p.width, load, [&](int64_t at, const Loaded& loaded) {
    const auto x = loaded.x.unpack();
    auto grad = loaded.grad.unpack();
#pragma unroll
    for (int i = 0; i < E; ++i) {
      const float u = x.at[i] + bias.at[i];
      grad.at[i] *= Normal<T>(u).slope(u);
      sums.at[i] += grad.at[i];
    }
    Lane::pack(grad).store(static_cast<T*>(p.grad_x) + at);
  });
  if (p.sums != nullptr) {
    Columns<T>::store_sums(sums, p.width, p.sums, p.width);
  }
}

dim3 grid(Element element, const BiasGeluParams& p) {
  return {column_blocks(element, p.width), static_cast<unsigned>(p.partials)};
}

}  // namespace

cudaError_t launch_bias_gelu(Element element, const BiasGeluParams& p, cudaStream_t stream) {
  return with_element(element, [&](auto x) {
    bias_gelu_kernel<decltype(x)>
        <<<grid(element, p), dim3(kColumnLanes, kColumnWarps), 0, stream>>>(p);
  });
}

cudaError_t launch_bias_gelu_backward(Element element, const BiasGeluParams& p,
                                      cudaStream_t stream) {
  return with_element(element, [&](auto x) {
    bias_gelu_backward_kernel<decltype(x)>
        <<<grid(element, p), dim3(kColumnLanes, kColumnWarps), 0, stream>>>(p);
  });
}

int64_t bias_gelu_partials(Element element, const BiasGeluParams& p) {
  return row_blocks(element, p.rows, p.width);
}

}  // namespace comba::kernels::cuda
