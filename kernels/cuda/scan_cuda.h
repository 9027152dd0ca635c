// The CUDA scan: three kernels, all deterministic, fp32 inside whatever the input dtype.
//
//   forward    one thread owns one column of S (Dk registers) and walks the tokens; nothing is shared but
//              k, q and the gates, so threads never wait for each other. For the backward pass it also
//              leaves u_t and the state before every kScanChunk-th token.
//   reverse    the same walk from the other end for dS; leaves du_t and dS after every chunk.
//   gradients  one block per chunk: every gradient from those four by small matrix products.
//
// Register budget: forward and reverse hold Dk floats a thread; Dk = 128 stays below 255 without spills.
#pragma once

#include "kernels/scan_params.h"

#include <cuda_runtime_api.h>

namespace comba::kernels::cuda {

constexpr int kScanChunk = 32;    // tokens between kept states
constexpr int kScanColumns = 64;  // columns of S per block of the walks

// What the backward pass keeps between its kernels, for tasks first .. first + count - 1. fp32.
struct ScanScratch {
  int64_t first = 0, count = 0;
  int64_t chunks = 0;            // ceil(T / kScanChunk)
  float* update = nullptr;       // [count, T, Dv] u_t, in scan order
  float* grad_update = nullptr;  // [count, T, Dv] du_t
  float* state = nullptr;        // [count, chunks, Dk, Dv] S before the chunk
  float* grad_state = nullptr;   // [count, chunks, Dk, Dv] dS after the chunk
};

// The launchers of one input dtype (cuda/instances/scan_<dtype>.cu), for tasks scratch.first .. + count.
// Null outputs are skipped.
template <typename T>
struct ScanLauncher {
  static cudaError_t forward(const ScanParams<float>& params, const ScanOutputs<float>& outputs,
                             const ScanScratch& scratch, cudaStream_t stream);
  static cudaError_t reverse(const ScanParams<float>& params, const ScanGradients<float>& gradients,
                             const ScanScratch& scratch, cudaStream_t stream);
  // grad_d_partial: [count, chunks]
  static cudaError_t gradients(const ScanParams<float>& params,
                               const ScanGradients<float>& gradients, float* grad_d_partial,
                               const ScanScratch& scratch, cudaStream_t stream);
};

}  // namespace comba::kernels::cuda
