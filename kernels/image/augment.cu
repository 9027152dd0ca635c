// A launch serves the whole batch: blockIdx.x is an image or one operation on one, and the blocks in y share its pixels.
// Images without an operation at a place in the order cost nothing there.
//
//   weights_kernel     tables of both axes of every image
//   lines_kernel       columns of the box resized; columns_kernel: rows, and mirrored
//   for every place in the order of operations
//     histogram_kernel   counts in shared memory, then in global memory: whole numbers, whose order does not matter
//     lookup_kernel      tables of 3 x 256 levels
//     operate_kernel     every pixel; blur_kernel: one of six passes
#include "kernels/image/augment_cuda.h"
#include "kernels/image/operate_pixel.h"
#include "kernels/image/resample_pixel.h"

#include <algorithm>

namespace comba::kernels::image {
namespace {

constexpr int kThreads = 256;
constexpr int kPixelsPerBlock = 2048;  // 25 blocks for 224 x 224
constexpr int kHistogramBlocks = 8;    // each adds 768 counts to those in global memory

// Calls `function(y, x)` for this thread's share of height x width pixels.
template <typename Function>
__device__ void for_each_pixel(int height, int width, const Function& function) {
  const int count = height * width, stride = static_cast<int>(gridDim.y) * kThreads;
  for (int i = static_cast<int>(blockIdx.y) * kThreads + static_cast<int>(threadIdx.x); i < count;
       i += stride) {
    function(i / width, i % width);
  }
}

__global__ void __launch_bounds__(kThreads)
    weights_kernel(const __grid_constant__ AugmentBuffers b) {
  const Source& s = b.sources[blockIdx.x];
  for (int axis = 0; axis < 2; ++axis) {
    for_each_pixel(1, s.axes[axis].outputs,
                   [&](int, int i) { make_weights(s.axes[axis], i, b.tables + s.tables[axis]); });
  }
}

__global__ void __launch_bounds__(kThreads) lines_kernel(const __grid_constant__ AugmentBuffers b) {
  const Source s = b.sources[blockIdx.x];
  for_each_pixel(s.lines, b.width, [&](int line, int x) { resize_line(b, s, line, x); });
}

__global__ void __launch_bounds__(kThreads)
    columns_kernel(const __grid_constant__ AugmentBuffers b) {
  const int image = static_cast<int>(blockIdx.x);
  const Source s = b.sources[image];
  for_each_pixel(b.height, b.width, [&](int y, int x) { resize_column(b, s, image, y, x); });
}

__global__ void __launch_bounds__(kThreads)
    histogram_kernel(const __grid_constant__ AugmentBuffers b, int first) {
  __shared__ uint32_t counts[3 * kLevels];
  const Task& t = b.tasks[first + static_cast<int>(blockIdx.x)];
  const uint8_t* const image = b.image(t.from, t.image);
  const Operation operation = t.operation;
  for (int i = static_cast<int>(threadIdx.x); i < 3 * kLevels; i += kThreads) {
    counts[i] = 0;
  }
  __syncthreads();
  for_each_pixel(b.height, b.width, [&](int y, int x) {
    const uint8_t* const rgb = image + (int64_t{y} * b.width + x) * 3;
    for (int c = 0; c < channels_counted(operation); ++c) {
      atomicAdd(&counts[c * kLevels + level_of(operation, rgb, c)], 1U);
    }
  });
  __syncthreads();
  uint32_t* const histogram = b.histograms + int64_t{blockIdx.x} * 3 * kLevels;
  for (int i = static_cast<int>(threadIdx.x); i < 3 * kLevels; i += kThreads) {
    if (counts[i] > 0) {
      atomicAdd(&histogram[i], counts[i]);
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    lookup_kernel(const __grid_constant__ AugmentBuffers b, int first) {
  __shared__ uint32_t counts[3 * kLevels];
  const Task& t = b.tasks[first + static_cast<int>(blockIdx.x)];
  const int64_t at = int64_t{blockIdx.x} * 3 * kLevels;
  if (needs_histogram(t.operation)) {  // the same for all threads
    for (int i = static_cast<int>(threadIdx.x); i < 3 * kLevels; i += kThreads) {
      counts[i] = b.histograms[at + i];
    }
    __syncthreads();
  }
  for_each_pixel(3, kLevels, [&](int channel, int value) {
    b.lookups[at + channel * kLevels + value] = looked_up(t, counts, channel, value);
  });
}

__global__ void __launch_bounds__(kThreads)
    operate_kernel(const __grid_constant__ AugmentBuffers b, int first) {
  const Task& t = b.tasks[first + static_cast<int>(blockIdx.x)];
  const uint8_t* const lookup = b.lookups + int64_t{blockIdx.x} * 3 * kLevels;
  for_each_pixel(b.height, b.width, [&](int y, int x) { operate(b, t, lookup, y, x); });
}

__global__ void __launch_bounds__(kThreads)
    blur_kernel(const __grid_constant__ AugmentBuffers b, int first, int pass) {
  const Task& t = b.tasks[first + static_cast<int>(blockIdx.x)];
  for_each_pixel(b.height, b.width, [&](int y, int x) { blur(b, t, pass, y, x); });
}

unsigned blocks_for(int64_t pixels) {
  constexpr int64_t kMost = 4096;
  return static_cast<unsigned>(std::min(kMost, (pixels + kPixelsPerBlock - 1) / kPixelsPerBlock));
}

void launch_stage(const Stage& stage, const AugmentBuffers& b, cudaStream_t stream) {
  const auto grid = [](int tasks, unsigned blocks) {
    return dim3(static_cast<unsigned>(tasks), blocks);
  };
  const unsigned blocks = blocks_for(int64_t{b.height} * b.width);
  if (stage.histograms > 0) {
    cudaMemsetAsync(b.histograms, 0, sizeof(uint32_t) * 3 * kLevels * stage.histograms, stream);
    histogram_kernel<<<grid(stage.histograms, std::min<unsigned>(blocks, kHistogramBlocks)),
                       kThreads, 0, stream>>>(b, stage.first);
  }
  if (stage.lookups > 0) {
    lookup_kernel<<<grid(stage.lookups, 1), kThreads, 0, stream>>>(b, stage.first);
  }
  if (stage.all > 0) {
    operate_kernel<<<grid(stage.all, blocks), kThreads, 0, stream>>>(b, stage.first);
  }
  for (int pass = 0; stage.blurs > 0 && pass < kBlurPasses; ++pass) {
    blur_kernel<<<grid(stage.blurs, blocks), kThreads, 0, stream>>>(b, stage.first + stage.all,
                                                                    pass);
  }
}

}  // namespace

cudaError_t launch_augment(const AugmentPlan& plan, const AugmentBuffers& b, cudaStream_t stream) {
  const auto images = static_cast<unsigned>(plan.sources.size());
  const int64_t pixels = int64_t{plan.height} * plan.width;
  const int64_t mean_lines = plan.line_bytes / 3 / images;  // pixels
  weights_kernel<<<images, kThreads, 0, stream>>>(b);
  lines_kernel<<<dim3(images, blocks_for(mean_lines)), kThreads, 0, stream>>>(b);
  columns_kernel<<<dim3(images, blocks_for(pixels)), kThreads, 0, stream>>>(b);
  for (const Stage& stage : plan.stages) {
    launch_stage(stage, b, stream);
  }
  return cudaGetLastError();
}

}  // namespace comba::kernels::image
