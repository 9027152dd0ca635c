// Launchers of one input dtype; instantiated in cuda/instances/.
#pragma once

#include "kernels/cuda/head_dim.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/scan_gradients.cuh"
#include "kernels/cuda/scan_walk.cuh"
#include "kernels/cuda/tensor_float.cuh"
#include "kernels/cuda/tensor_forward.cuh"
#include "kernels/cuda/tensor_gradients.cuh"
#include "kernels/cuda/tensor_segments.cuh"

#include <algorithm>
#include <type_traits>

namespace comba::kernels::cuda {

inline dim3 walk_grid(const ScanParams<float>& params, const ScanScratch& scratch) {
  return dim3(static_cast<unsigned>(scratch.count),
              static_cast<unsigned>((params.value_dim + kScanColumns - 1) / kScanColumns));
}

template <typename T>
cudaError_t ScanLauncher<T>::forward(const ScanParams<float>& params,
                                     const ScanOutputs<float>& outputs, const ScanScratch& scratch,
                                     cudaStream_t stream) {
  return with_head_dim(params.key_dim, [&](auto dim) {
    scan_forward_kernel<dim(), T>
        <<<walk_grid(params, scratch), kScanColumns, 0, stream>>>(params, outputs, scratch);
    return cudaGetLastError();
  });
}

template <typename T>
cudaError_t ScanLauncher<T>::reverse(const ScanParams<float>& params,
                                     const ScanGradients<float>& gradients,
                                     const ScanScratch& scratch, cudaStream_t stream) {
  return with_head_dim(params.key_dim, [&](auto dim) {
    scan_reverse_kernel<dim(), T>
        <<<walk_grid(params, scratch), kScanColumns, 0, stream>>>(params, gradients, scratch);
    return cudaGetLastError();
  });
}

template <typename T>
cudaError_t ScanLauncher<T>::gradients(const ScanParams<float>& params,
                                       const ScanGradients<float>& gradients, float* grad_d_partial,
                                       const ScanScratch& scratch, cudaStream_t stream) {
  const size_t bytes =
      gradient_shared_bytes(static_cast<int>(params.key_dim), static_cast<int>(params.value_dim));
  const cudaError_t status =
      cudaFuncSetAttribute(scan_gradients_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(bytes));
  if (status != cudaSuccess) {
    return status;
  }
  const auto blocks = static_cast<unsigned>(scratch.count * scratch.chunks);
  scan_gradients_kernel<T>
      <<<blocks, kGradientThreads, bytes, stream>>>(params, gradients, grad_d_partial, scratch);
  return cudaGetLastError();
}

// Calls body<D, kDirections> for the head dimension and the sharing of rows.
template <typename Body>
cudaError_t with_tensor_shape(int64_t dim, bool shared_rows, const Body& body) {
  const auto with_dim = [&](auto d) {
    return shared_rows ? body(d, std::integral_constant<int, 2>())
                       : body(d, std::integral_constant<int, 1>());
  };
  switch (dim) {
    case 32:
      return with_dim(std::integral_constant<int, 32>());
    case 64:
      return with_dim(std::integral_constant<int, 64>());
    case 128:
      return with_dim(std::integral_constant<int, 128>());
    default:
      return cudaErrorInvalidValue;
  }
}

// Shared memory of a block; sets scan.slots. More than `limit` if the sequence does not fit.
template <int D, int kDirections, typename T>
int64_t shared_bytes(TensorScan<T>& scan, int64_t limit) {
  if (kDirections == 1) {
    return tensor_shared_bytes<D>();
  }
  constexpr int64_t kReserved = 1024;  // of every block
  scan.slots =
      tensor_slots<D>(scan.params.length, (limit + kReserved) / kResidentBlocks<D> - kReserved);
  if (scan.slots == 0) {
    scan.slots = tensor_slots<D>(scan.params.length, limit);
  }
  return scan.slots > 0 ? resident_shared_bytes<D>(tensor_chunks(scan.params.length), scan.slots)
                        : limit + 1;
}

// Cuts `count` tasks from scan.first on: leaves triangles, S^T after each segment and, with `gradients`, dS^T before each
// in `memory` (tensor_segment_floats() of them) and says where.
template <typename T, int D>
cudaError_t launch_segments(TensorBackward<T>& backward, int64_t count, float* memory,
                            bool gradients, size_t bytes, cudaStream_t stream) {
  using Block = TensorBlock<T, D, 1>;
  TensorScan<T>& scan = backward.scan;
  const int64_t blocks = count * (scan.segments - 1);
  SegmentChains chains{memory, nullptr, static_cast<uint32_t>(count), gradients, scan.segments};
  const int64_t floats = chains.chains() * (scan.segments - 1) * D * D;
  chains.transitions = memory + floats;
  scan.states = memory;
  backward.grad_states = memory + blocks * D * D;
  scan.triangles = reinterpret_cast<uint4*>(chains.transitions + floats);
  cudaError_t status = launch_with_memory(scan_segments_kernel<T, D>, count * scan.segments,
                                          Block::kThreads, bytes, stream, scan, chains);
  if (status == cudaSuccess && gradients) {
    status = launch_with_memory(scan_segment_gradients_kernel<T, D>, blocks, Block::kThreads, bytes,
                                stream, backward, chains);
  }
  return status == cudaSuccess
             ? launch_with_memory(scan_join_segments_kernel<D>, chains.chains() * D / kJoinRows,
                                  kJoinThreads, sizeof(JoinMemory<D>), stream, chains)
             : status;
}

inline cudaError_t launch_float(const ScanParams<float>& params, const TensorOutput& output,
                                int shared_limit, cudaStream_t stream) {
  return with_tensor_shape(params.key_dim, /*shared_rows=*/false, [&](auto dim, auto) {
    constexpr size_t kBytes = sizeof(FloatMemory<dim()>);
    if (output.merged || kBytes > static_cast<size_t>(shared_limit)) {
      return cudaErrorInvalidConfiguration;
    }
    return launch_with_memory(scan_float_kernel<dim()>, params.tasks(), FloatBlock<dim()>::kThreads,
                              kBytes, stream, params, static_cast<float*>(output.o));
  });
}

template <typename T>
cudaError_t ScanLauncher<T>::tensor(const ScanParams<float>& params, const TensorOutput& output,
                                    bool shared_rows, int shared_limit, cudaStream_t stream) {
  if constexpr (std::is_same_v<T, float>) {
    return launch_float(params, output, shared_limit, stream);
  } else {
    return with_tensor_shape(params.key_dim, shared_rows, [&](auto dim, auto directions) {
      constexpr int D = dim(), kDirections = directions();
      TensorBackward<T> all;
      TensorScan<T>& scan = all.scan;
      scan.params = params;
      scan.o = static_cast<T*>(output.o);
      scan.merged = output.merged;
      const int64_t bytes = shared_bytes<D, kDirections>(scan, shared_limit);
      if (bytes > shared_limit) {
        return cudaErrorInvalidConfiguration;
      }
      auto kernel = scan_tensor_kernel<T, D, kDirections>;
      if (kDirections == 1 && output.segments > 1) {
        scan.segments = output.segments;
        kernel = scan_tensor_kernel<T, D, 1, /*kCut=*/true>;
        const cudaError_t status = launch_segments<T, D>(all, params.tasks(), output.segment_states,
                                                         /*gradients=*/false, bytes, stream);
        if (status != cudaSuccess) {
          return status;
        }
      }
      constexpr int kThreads = TensorBlock<T, D, kDirections>::kThreads;
      int64_t blocks = params.tasks() / kDirections * scan.segments;
      RowMaps maps{};
      if (kDirections == 2) {  // a block serves one task after the other
        scan.mapped = encode_rows(maps, params, D, kTensorChunk);
        blocks = std::min(blocks, resident_blocks(kernel, kThreads, bytes));
      }
      return launch_with_memory(kernel, blocks, kThreads, bytes, stream, scan, maps);
    });
  }
}

template <typename T>
TensorBackward<T> tensor_backward_arguments(const ScanParams<float>& params,
                                            const TensorGradients& g) {
  TensorBackward<T> backward;
  backward.scan.params = params;
  backward.grad_o = static_cast<const T*>(g.grad_o);
  backward.grad_o_strides = g.grad_o_strides;
  backward.grad_q = static_cast<T*>(g.grad_q);
  backward.grad_k = static_cast<T*>(g.grad_k);
  backward.grad_v = static_cast<T*>(g.grad_v);
  backward.grad_log_alpha = g.grad_log_alpha;
  backward.grad_beta = g.grad_beta;
  backward.grad_c = g.grad_c;
  backward.grad_d = g.grad_d;
  backward.scratch = g.scratch;
  return backward;
}

template <typename T>
cudaError_t ScanLauncher<T>::tensor_backward(const ScanParams<float>& params,
                                             const TensorGradients& gradients, bool shared_rows,
                                             int shared_limit, cudaStream_t stream) {
  if constexpr (std::is_same_v<T, float>) {
    return cudaErrorInvalidValue;
  } else {
    return with_tensor_shape(params.key_dim, shared_rows, [&](auto dim, auto directions) {
      constexpr int D = dim(), kDirections = directions();
      using Gradients = SpanMemory<T, D, kDirections>;
      auto backward = tensor_backward_arguments<T>(params, gradients);
      const int64_t bytes = shared_bytes<D, kDirections>(backward.scan, shared_limit);
      if (std::max<int64_t>(bytes, sizeof(Gradients)) > shared_limit) {
        return cudaErrorInvalidConfiguration;
      }
      const int64_t total = params.tasks() / kDirections;
      const int64_t spans = tensor_spans(params.length);
      const int64_t fit =
          gradients.scratch_bytes / tensor_scratch_bytes(params.length, D, shared_rows);
      BackwardMaps maps{};
      backward.scan.mapped =
          kDirections == 2 &&
          encode_rows(maps, params, gradients.grad_o, gradients.grad_o_strides, D, kTensorChunk);
      cudaError_t status = cudaSuccess;
      for (int64_t& first = backward.scan.first; first < total && status == cudaSuccess;
           first += fit) {
        const int64_t blocks = std::min(fit, total - first);
        auto walks = scan_tensor_walks_kernel<T, D, kDirections>;
        if (kDirections == 1 && gradients.segments > 1) {
          backward.scan.segments = gradients.segments;
          walks = scan_tensor_walks_kernel<T, D, 1, /*kCut=*/true>;
          status = launch_segments<T, D>(backward, blocks, gradients.segment_states,
                                         /*gradients=*/true, bytes, stream);
        }
        if (status == cudaSuccess) {
          status = launch_with_memory(walks, blocks * backward.scan.segments,
                                      TensorBlock<T, D, kDirections>::kThreads, bytes, stream,
                                      backward, maps);
        }
        if (status == cudaSuccess) {
          status =
              launch_with_memory(scan_tensor_gradients_kernel<T, D, kDirections>, blocks * spans,
                                 Gradients::kThreads, sizeof(Gradients), stream, backward);
        }
      }
      return status;
    });
  }
}

}  // namespace comba::kernels::cuda
