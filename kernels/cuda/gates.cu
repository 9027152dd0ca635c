// A thread has one column, a direction and head, of some of the tokens.
#include "kernels/cuda/gates_cuda.h"

#include <algorithm>

namespace comba::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// log(1 + exp(x)) that neither overflows nor loses small values.
__device__ float softplus(float x) { return fmaxf(x, 0.f) + log1pf(expf(-fabsf(x))); }
__device__ float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }

// A column's parameters.
struct Column {
  int64_t at, other;  // of a in a token's row of raw; of b
  int64_t head, direction;
  float rate, bias, share;

  __device__ Column(const GateParams& p, int64_t column)
      : at(column),
        other(column + p.directions * p.heads),
        head(column % p.heads),
        direction(column / p.heads),
        rate(expf(p.A_log[column])),
        bias(p.dt_bias[column]),
        share(p.decay != nullptr ? sigmoid(p.decay[column]) : 1.f) {}

  __device__ const float* row(const GateParams& p, int64_t token) const {
    return p.raw + token * p.stride;
  }
  __device__ int64_t gate(const GateParams& p, int64_t token) const {
    return (direction * p.tokens + token) * p.heads + head;
  }
};

__global__ void __launch_bounds__(kThreads)
    gates_kernel(const __grid_constant__ GateParams p, const __grid_constant__ GateOutputs out) {
  const int64_t columns = p.directions * p.heads;
  const int64_t n = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (n >= p.tokens * columns) {
    return;
  }
  const int64_t token = n / columns;
  const Column column(p, n % columns);
  const float* const row = column.row(p, token);
  const float beta = sigmoid(row[column.other]);
  const int64_t gate = column.gate(p, token);
  out.log_alpha[gate] = -column.rate * softplus(row[column.at] + column.bias);
  out.beta[gate] = beta;
  out.c[gate] = p.feedback * column.share * beta;
}

// Blocks of [columns, rows of tokens]; grid of [partials, groups of columns].
__global__ void __launch_bounds__(kThreads)
    gates_backward_kernel(const __grid_constant__ GateParams p,
                          const __grid_constant__ GateGradients g) {
  __shared__ float sums[3][kThreads];
  const int64_t columns = p.directions * p.heads;
  const int64_t n = int64_t{blockIdx.y} * blockDim.x + threadIdx.x;
  float sum[3] = {};
  if (n < columns) {
    const Column column(p, n);
    const int64_t stride = int64_t{gridDim.x} * blockDim.y;
    for (int64_t t = int64_t{blockIdx.x} * blockDim.y + threadIdx.y; t < p.tokens; t += stride) {
      const float* const row = column.row(p, t);
      const int64_t gate = column.gate(p, t);
      const float a = row[column.at] + column.bias, beta = sigmoid(row[column.other]);
      const float by_rate = -column.rate * g.grad_log_alpha[gate];
      const float by_a = by_rate * sigmoid(a), c = p.feedback * g.grad_c[gate];
      float* const grad = g.grad_raw + t * 2 * columns;
      grad[column.at] = by_a;
      grad[column.other] = (g.grad_beta[gate] + c * column.share) * beta * (1.f - beta);
      sum[0] += by_rate * softplus(a);
      sum[1] += by_a;
      sum[2] += c * beta * column.share * (1.f - column.share);
    }
  }
  const int at = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
#pragma unroll
  for (int kind = 0; kind < 3; ++kind) {
    sums[kind][at] = sum[kind];
  }
  __syncthreads();
  if (threadIdx.y < 3 && n < columns) {
    float total = 0.f;
    for (unsigned y = 0; y < blockDim.y; ++y) {
      total += sums[threadIdx.y][y * blockDim.x + threadIdx.x];
    }
    g.sums[(int64_t{blockIdx.x} * 3 + threadIdx.y) * columns + n] = total;
  }
}

}  // namespace

cudaError_t launch_gates(const GateParams& p, const GateOutputs& outputs, cudaStream_t stream) {
  const int64_t count = p.tokens * p.directions * p.heads;
  gates_kernel<<<static_cast<unsigned>((count + kThreads - 1) / kThreads), kThreads, 0, stream>>>(
      p, outputs);
  return cudaGetLastError();
}

cudaError_t launch_gates_backward(const GateParams& p, const GateGradients& gradients,
                                  cudaStream_t stream) {
  const auto columns = static_cast<unsigned>(p.directions * p.heads);
  const unsigned width = std::min(columns, 64U);  // leaves the three rows that add up
  const dim3 block(width, kThreads / width), grid(kGatePartials, (columns + width - 1) / width);
  gates_backward_kernel<<<grid, block, 0, stream>>>(p, gradients);
  return cudaGetLastError();
}

}  // namespace comba::kernels::cuda
