// A thread with a few bytes of columns that walks down some of the rows: what sums over rows are made of.
#pragma once

#include "kernels/block/element_kind.h"
#include "kernels/cuda/mixer_lanes.cuh"

#include <algorithm>

#include <cuda_runtime_api.h>

namespace comba::kernels::cuda {

constexpr int kColumnLanes = 32, kColumnWarps = 8;
constexpr int kColumnBlocks = 8;  // an SM, in flight

template <typename T, int kBytes = 16>
struct Columns {
  static constexpr int E = kBytes / sizeof(T);
  using Lane = Packed<T, E>;
  const int64_t first = (int64_t{blockIdx.x} * kColumnLanes + threadIdx.x) * E;
  const int64_t stride = int64_t{gridDim.y} * kColumnWarps;

  // The threads beyond the width have no rows. Two rows are asked for before the first is worked on.
  template <typename Load, typename Body>
  __device__ void walk(int64_t rows, int64_t width, const Load& load, const Body& body) const {
    if (first >= width) {
      return;
    }
    int64_t row = int64_t{blockIdx.y} * kColumnWarps + threadIdx.y;
    for (; row + stride < rows; row += 2 * stride) {
      const int64_t at = row * width + first, next = at + stride * width;
      const auto a = load(at), b = load(next);
      body(at, a);
      body(next, b);
    }
    if (row < rows) {
      const int64_t at = row * width + first;
      body(at, load(at));
    }
  }

  // The block's threads add up what they have of each column, one warp after another. `sums`: [gridDim.y, width], its rows
  // `stride` apart
  __device__ static void store_sums(const Channels<E>& own, int64_t width, float* sums,
                                    int64_t stride) {
    __shared__ float shared[kColumnWarps][kColumnLanes][E + 1];  // an odd number of banks apart
#pragma unroll
    for (int i = 0; i < E; ++i) {
      shared[threadIdx.y][threadIdx.x][i] = own.at[i];
    }
    __syncthreads();
    for (int n = static_cast<int>(threadIdx.y * kColumnLanes + threadIdx.x); n < kColumnLanes * E;
         n += kColumnLanes * kColumnWarps) {
      const int64_t column = int64_t{blockIdx.x} * kColumnLanes * E + n;
      float sum = 0.f;
#pragma unroll
      for (int warp = 0; warp < kColumnWarps; ++warp) {
        sum += shared[warp][n / E][n % E];
      }
      if (column < width) {
        sums[int64_t{blockIdx.y} * stride + column] = sum;
      }
    }
  }
};

inline unsigned column_blocks(Element element, int64_t width, int bytes = 16) {
  const int64_t columns = kColumnLanes * bytes / (element == Element::float32 ? 4 : 2);
  return static_cast<unsigned>((width + columns - 1) / columns);
}

// Blocks over the rows that fill the current device.
inline int64_t row_blocks(Element element, int64_t rows, int64_t width, int bytes = 16) {
  int device = 0, processors = 1;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  const int64_t fill = int64_t{processors} * kColumnBlocks / column_blocks(element, width, bytes);
  return std::clamp<int64_t>((rows + kColumnWarps - 1) / kColumnWarps, 1,
                             std::max<int64_t>(fill, 1));
}

// Calls `call` with a number of the element's type.
template <typename Call>
cudaError_t with_element(Element element, const Call& call) {
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

}  // namespace comba::kernels::cuda
