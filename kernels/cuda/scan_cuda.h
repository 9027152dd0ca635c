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

#include <algorithm>

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

// Where the forward scan on tensor cores leaves its output, and how it runs.
struct TensorOutput {
  void* o = nullptr;
  bool merged =
      false;  // q, k, v are shared and both directions add up in o [B, T, H, D]; else o is [R, B, T, H, D]
  int segments = 1;                 // of a sequence (rows of its own only), see tensor_segments.cuh
  float* segment_states = nullptr;  // tensor_segment_floats() of scratch
};

inline int64_t tensor_spans(int64_t length) { return (length + 31) / 32; }

// Segments that make few tasks fill a large device. Cutting costs more than one pass over the rows, so that fewer than five
// are no gain. Of tasks and lengths alone: the same bits on every device.
inline int tensor_segments(int64_t tasks, int64_t length, int64_t dim) {
  constexpr int64_t kWarps = 2112, kLeastSpans = 16, kLeastSegments = 5;
  const int64_t spans = tensor_spans(length);
  const int64_t count =
      std::min(kWarps / std::max<int64_t>(tasks * dim / 16, 1), spans / kLeastSpans);
  if (count < kLeastSegments) {
    return 1;
  }
  const int64_t size = (spans + count - 1) / count;
  return static_cast<int>((spans + size - 1) / size);
}
// Scratch of the forward or the backward pass for tasks that are cut (tensor_segments.cuh): two or four matrices a segment,
// and 1 KiB a chunk for the triangles. None for one segment.
inline int64_t tensor_segment_floats(int64_t tasks, int segments, int64_t length, int64_t dim,
                                     bool gradients) {
  const int64_t matrices = (gradients ? 4 : 2) * (segments - 1) * dim * dim;
  return segments > 1 ? tasks * (matrices + 2 * tensor_spans(length) * 256) : 0;
}

// The backward pass of the bidirectional scan on tensor cores (tensor_walks.cuh, tensor_gradients.cuh), half-width.
struct TensorGradients {
  const void* grad_o = nullptr;
  RowStrides grad_o_strides;
  void *grad_q = nullptr, *grad_k = nullptr,
       *grad_v = nullptr;  // [B, T, H, D] (shared rows) or [R, B, T, H, D]
  float *grad_log_alpha = nullptr, *grad_beta = nullptr, *grad_c = nullptr;  // [R, B, T, H]
  float* grad_d = nullptr;  // [R, B, H, tensor_spans(T)]
  int segments = 1;         // as in TensorOutput
  float* segment_states = nullptr;
  void* scratch = nullptr;
  int64_t scratch_bytes =
      0;  // at least tensor_scratch_bytes() of one block; more blocks run at a time with more
};

// The scratch of a (batch, head) or, with rows of its own, of a task: per direction and span S, dS [D, D] and V', dR [32, D],
// half-width.
inline int64_t tensor_scratch_bytes(int64_t length, int64_t dim, bool shared_rows) {
  return (shared_rows ? 2 : 1) * tensor_spans(length) * 4 * dim * (dim + 32);
}

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
  // The forward scan on tensor cores (tensor_forward.cuh, tensor_float.cuh), for Dk = Dv = 32, 64 or 128.
  // cudaErrorInvalidConfiguration: the sequence does not fit in `shared_limit` bytes of shared memory.
  static cudaError_t tensor(const ScanParams<float>& params, const TensorOutput& output,
                            bool shared_rows, int shared_limit, cudaStream_t stream);
  // Its gradients, likewise, for half-width T.
  static cudaError_t tensor_backward(const ScanParams<float>& params,
                                     const TensorGradients& gradients, bool shared_rows,
                                     int shared_limit, cudaStream_t stream);
};

}  // namespace comba::kernels::cuda
