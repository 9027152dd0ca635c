// A thread has all channels of some pixels of an image, blockIdx.x; its writes to each plane follow those of its neighbours.
#include "kernels/image/finish_pixel.h"
#include "kernels/image/normalise_cuda.h"

#include <algorithm>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace comba::kernels::image {
namespace {

constexpr int kThreads = 256;
constexpr int kPixelsPerBlock = 2048;

template <typename T>
__device__ T rounded(float x);
template <>
__device__ float rounded<float>(float x) {
  return x;
}
template <>
__device__ __nv_bfloat16 rounded<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ __half rounded<__half>(float x) {
  return __float2half_rn(x);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    normalise_kernel(const __grid_constant__ NormaliseProblem p, T* out) {
  const int image = static_cast<int>(blockIdx.x), count = p.size * p.size;
  const int stride = static_cast<int>(gridDim.y) * kThreads;
  for (int i = static_cast<int>(blockIdx.y) * kThreads + static_cast<int>(threadIdx.x); i < count;
       i += stride) {
    for (int c = 0; c < p.channels; ++c) {
      out[(int64_t{image} * p.channels + c) * count + i] =
          rounded<T>(finished(p, image, c, i / p.size, i % p.size));
    }
  }
}

template <typename T>
void launch(const NormaliseProblem& p, void* out, cudaStream_t stream) {
  constexpr int kMostBlocks = 4096;
  const int blocks = (p.size * p.size + kPixelsPerBlock - 1) / kPixelsPerBlock;
  normalise_kernel<T><<<dim3(static_cast<unsigned>(p.images),
                             static_cast<unsigned>(std::min(blocks, kMostBlocks))),
                        kThreads, 0, stream>>>(p, static_cast<T*>(out));
}

}  // namespace

cudaError_t launch_normalise(const NormaliseProblem& p, OutputType type, void* out,
                             cudaStream_t stream) {
  switch (type) {
    case OutputType::fp32:
      launch<float>(p, out, stream);
      break;
    case OutputType::bf16:
      launch<__nv_bfloat16>(p, out, stream);
      break;
    case OutputType::fp16:
      launch<__half>(p, out, stream);
      break;
  }
  return cudaGetLastError();
}

}  // namespace comba::kernels::image
