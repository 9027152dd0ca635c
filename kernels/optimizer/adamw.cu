// A block has a chunk of one tensor, which it finds by bisection among the tensors' first blocks.
#include "kernels/optimizer/adamw_kernel.h"

namespace comba::kernels::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

// A block's tensor and its elements from `begin` to before `end`.
struct Chunk {
  int tensor;
  int64_t begin, end;

  __device__ explicit Chunk(const StepTensors& t) {
    int low = 0, high = t.count;  // the last whose first block is not behind this one
    const int block = static_cast<int>(blockIdx.x);
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (t.first[middle] <= block ? low : high) = middle;
    }
    tensor = low;
    begin = int64_t{block - t.first[low]} * kStepChunk;
    const int64_t size = t.size[low];
    end = begin + kStepChunk < size ? begin + kStepChunk : size;
  }
};

__device__ bool is_vector(const void* at) { return reinterpret_cast<uintptr_t>(at) % 16 == 0; }

struct Adamw {
  float rate, root, keep_mean, keep_square, add_mean, add_square, eps, decay, factor;

  // One thread: powers in fp64, as 1 - beta^steps is small.
  __device__ explicit Adamw(const AdamwParams& p) {
    const double steps = *p.steps, lr = *p.lr;
    rate = static_cast<float>(lr / (1.0 - pow(p.beta1, steps)));
    root = static_cast<float>(1.0 / sqrt(1.0 - pow(p.beta2, steps)));
    keep_mean = static_cast<float>(p.beta1);
    keep_square = static_cast<float>(p.beta2);
    add_mean = static_cast<float>(1.0 - p.beta1);
    add_square = static_cast<float>(1.0 - p.beta2);
    eps = p.eps;
    decay = static_cast<float>(lr * p.weight_decay);
    factor = p.factor != nullptr ? *p.factor : 1.f;
  }
  __device__ Adamw() = default;

  __device__ void update(float& parameter, float gradient, float& mean, float& square) const {
    const float g = gradient * factor;
    mean = fmaf(add_mean, g, keep_mean * mean);
    square = fmaf(add_square * g, g, keep_square * square);
    parameter = fmaf(-decay, parameter, parameter);
    parameter -= rate * mean / fmaf(sqrtf(square), root, eps);
  }
};

__global__ void __launch_bounds__(kThreads)
    adamw_kernel(const __grid_constant__ StepTensors t, const __grid_constant__ AdamwParams p) {
  if (*p.skip != 0.f) {
    return;
  }
  __shared__ float shared[sizeof(Adamw) / sizeof(float)];
  if (threadIdx.x == 0) {
    *reinterpret_cast<Adamw*>(shared) = Adamw(p);
  }
  __syncthreads();
  const Adamw adamw = *reinterpret_cast<const Adamw*>(shared);
  const Chunk chunk(t);
  float *const parameter = t.parameter[chunk.tensor], *const mean = t.mean[chunk.tensor],
               *const square = t.square[chunk.tensor];
  const float* const gradient = t.gradient[chunk.tensor];
  int64_t n = chunk.begin + threadIdx.x;
  if (is_vector(parameter) && is_vector(gradient) && is_vector(mean) && is_vector(square)) {
    const int64_t whole = chunk.begin + (chunk.end - chunk.begin) / 4 * 4;
    for (int64_t at = chunk.begin + 4 * threadIdx.x; at < whole; at += 4 * kThreads) {
      auto& x = *reinterpret_cast<float4*>(parameter + at);
      auto& m = *reinterpret_cast<float4*>(mean + at);
      auto& s = *reinterpret_cast<float4*>(square + at);
      const float4 g = *reinterpret_cast<const float4*>(gradient + at);
      float4 own = x, first = m, second = s;
      adamw.update(own.x, g.x, first.x, second.x);
      adamw.update(own.y, g.y, first.y, second.y);
      adamw.update(own.z, g.z, first.z, second.z);
      adamw.update(own.w, g.w, first.w, second.w);
      x = own;
      m = first;
      s = second;
    }
    n = whole + threadIdx.x;
  }
  for (; n < chunk.end; n += kThreads) {
    adamw.update(parameter[n], gradient[n], mean[n], square[n]);
  }
}

__global__ void __launch_bounds__(kThreads)
    square_sums_kernel(const __grid_constant__ StepTensors t, float* sums) {
  __shared__ float shared[kWarps];
  const Chunk chunk(t);
  const float* const x = t.gradient[chunk.tensor];
  float sum = 0.f;
#pragma unroll 8
  for (int64_t n = chunk.begin + threadIdx.x; n < chunk.end; n += kThreads) {
    sum = fmaf(x[n], x[n], sum);
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    sum += __shfl_xor_sync(~0u, sum, step);
  }
  if (threadIdx.x % 32 == 0) {
    shared[threadIdx.x / 32] = sum;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    float total = 0.f;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
      total += shared[warp];
    }
    sums[blockIdx.x] = total;
  }
}

}  // namespace

bool add_tensor(StepTensors& t, float* parameter, const float* gradient, float* mean, float* square,
                int64_t size) {
  const int64_t blocks = (size + kStepChunk - 1) / kStepChunk;
  if (t.count == kStepTensors || t.blocks + blocks >= int64_t{1} << 31) {
    return false;
  }
  const int n = t.count++;
  t.parameter[n] = parameter;
  t.gradient[n] = gradient;
  t.mean[n] = mean;
  t.square[n] = square;
  t.size[n] = size;
  t.first[n] = t.blocks;
  t.blocks += static_cast<int>(blocks);
  return true;
}

cudaError_t launch_adamw(const StepTensors& tensors, const AdamwParams& p, cudaStream_t stream) {
  adamw_kernel<<<static_cast<unsigned>(tensors.blocks), kThreads, 0, stream>>>(tensors, p);
  return cudaGetLastError();
}

cudaError_t launch_square_sums(const StepTensors& tensors, float* sums, cudaStream_t stream) {
  square_sums_kernel<<<static_cast<unsigned>(tensors.blocks), kThreads, 0, stream>>>(tensors, sums);
  return cudaGetLastError();
}

}  // namespace comba::kernels::cuda
