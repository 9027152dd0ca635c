// A thread has 16 bytes of a row.
#include "kernels/block/join_columns_kernel.h"
#include "kernels/cuda/mixer_lanes.cuh"

namespace comba::kernels::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T>
__global__ void __launch_bounds__(kThreads) join_columns_kernel(const JoinParams p) {
  using Lane = Packed<T, kJoinPiece>;
  const int pieces = p.width / kJoinPiece;
  const int64_t n = int64_t{blockIdx.x} * kThreads + threadIdx.x, row = n / pieces;
  if (row >= p.rows) {
    return;
  }
  const int column = static_cast<int>(n - row * pieces) * kJoinPiece;
  T* const to = static_cast<T*>(p.out) + n * kJoinPiece;
  if (column < p.first_width) {
    Lane::load(static_cast<const T*>(p.first) + row * p.first_width + column).store(to);
    return;
  }
  Channels<kJoinPiece> x;
#pragma unroll
  for (int i = 0; i < kJoinPiece; ++i) {
    const int at = column - p.first_width + i;
    x.at[i] = at < p.second_width ? p.second[row * p.second_width + at] : 0.f;
  }
  Lane::pack(x).store(to);
}

}  // namespace

cudaError_t launch_join_columns(Element element, const JoinParams& p, cudaStream_t stream) {
  const int64_t threads = p.rows * (p.width / kJoinPiece);
  const auto blocks = static_cast<unsigned>((threads + kThreads - 1) / kThreads);
  if (element == Element::bfloat16) {
    join_columns_kernel<__nv_bfloat16><<<blocks, kThreads, 0, stream>>>(p);
  } else {
    join_columns_kernel<__half><<<blocks, kThreads, 0, stream>>>(p);
  }
  return cudaGetLastError();
}

}  // namespace comba::kernels::cuda
