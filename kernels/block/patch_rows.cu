// A block has the patches of one row of patches; a thread reads eight neighbouring pixels at a time and writes them in turn.
#include "kernels/block/patch_rows_kernel.h"
#include "kernels/cuda/mixer_lanes.cuh"

namespace comba::kernels::cuda {
namespace {

constexpr int kThreads = 192, kPixels = 8;

template <typename T>
__global__ void __launch_bounds__(kThreads) patch_rows_kernel(const PatchParams p) {
  const int pieces = p.patch / kPixels, area = p.patch * pieces, all = p.channels * area;
  const int patches = p.width / p.patch, strips = p.height / p.patch;
  const int64_t image = blockIdx.x / strips;
  const int strip = static_cast<int>(blockIdx.x - image * strips);
  const float* const from = p.images + image * p.channels * p.height * p.width;
  T* const to = static_cast<T*>(p.rows) + int64_t{blockIdx.x} * patches * all * kPixels;
#pragma unroll 4
  for (int n = static_cast<int>(threadIdx.x); n < patches * all; n += kThreads) {
    const int patch = n / all, in_patch = n - patch * all;
    const int channel = in_patch / area, in_channel = in_patch - channel * area;
    const int row = in_channel / pieces, piece = in_channel - row * pieces;
    const int64_t y = int64_t{channel} * p.height + strip * p.patch + row;
    const float* const pixels = from + y * p.width + patch * p.patch + piece * kPixels;
    const auto low = Packed<float, 4>::load(pixels), high = Packed<float, 4>::load(pixels + 4);
    Channels<kPixels> x;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x.at[i] = __uint_as_float(low.words[i]);
      x.at[4 + i] = __uint_as_float(high.words[i]);
    }
    Packed<T, kPixels>::pack(x).store(to + n * kPixels);
  }
}

}  // namespace

cudaError_t launch_patch_rows(Element element, const PatchParams& p, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(p.batch * (p.height / p.patch));
  if (element == Element::bfloat16) {
    patch_rows_kernel<__nv_bfloat16><<<blocks, kThreads, 0, stream>>>(p);
  } else {
    patch_rows_kernel<__half><<<blocks, kThreads, 0, stream>>>(p);
  }
  return cudaGetLastError();
}

}  // namespace comba::kernels::cuda
