// A block has 32 columns and 32 rows of threads, so that some hundred partial sums are a few loads deep.
#include "kernels/cuda/partial_sums.h"

namespace comba::kernels::cuda {
namespace {

constexpr int kSide = 32;

__global__ void __launch_bounds__(kSide* kSide)
    sum_partials_kernel(const float* partial, int64_t partials, int64_t columns, int64_t stride,
                        float* out) {
  __shared__ float sums[kSide][kSide + 1];
  const int64_t column = int64_t{blockIdx.x} * kSide + threadIdx.x;
  float sum = 0.f;
  if (column < columns) {
#pragma unroll 16
    for (int64_t row = threadIdx.y; row < partials; row += kSide) {
      sum += partial[row * stride + column];
    }
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  // Each warp adds up columns: lane n what the n-th row of threads has found.
  float total = sums[threadIdx.x][threadIdx.y];
#pragma unroll
  for (int step = kSide / 2; step > 0; step /= 2) {
    total += __shfl_xor_sync(~0u, total, step);
  }
  const int64_t own = int64_t{blockIdx.x} * kSide + threadIdx.y;
  if (threadIdx.x == 0 && own < columns) {
    out[own] = total;
  }
}

}  // namespace

cudaError_t launch_sum_partials(const float* partial, int64_t partials, int64_t columns,
                                int64_t stride, float* out, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>((columns + kSide - 1) / kSide);
  sum_partials_kernel<<<blocks, dim3(kSide, kSide), 0, stream>>>(partial, partials, columns, stride,
                                                                 out);
  return cudaGetLastError();
}

}  // namespace comba::kernels::cuda
