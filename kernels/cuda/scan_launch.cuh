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

// Leaves S^T after each segment in segments.states.
template <typename T, int D>
cudaError_t launch_segments(const TensorScan<T>& scan, const SegmentStates& segments, size_t bytes,
                            cudaStream_t stream) {
  const int64_t tasks = scan.params.tasks();
  const cudaError_t status =
      launch_with_memory(scan_segments_kernel<T, D>, tasks * segment_parts(scan.segments),
                         TensorBlock<T, D, 1>::kThreads, bytes, stream, scan, segments);
  if (status != cudaSuccess) {
    return status;
  }
  scan_join_segments_kernel<D>
      <<<static_cast<unsigned>(tasks * D / kJoinRows), kJoinThreads, 0, stream>>>(
          segments, scan.segments - 1);
  return cudaGetLastError();
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
      TensorScan<T> scan{params, static_cast<T*>(output.o), output.merged};
      const int64_t bytes = shared_bytes<D, kDirections>(scan, shared_limit);
      if (bytes > shared_limit) {
        return cudaErrorInvalidConfiguration;
      }
      if (kDirections == 1 && output.segments > 1) {
        const SegmentStates states{
            output.segment_states,
            output.segment_states + params.tasks() * (output.segments - 1) * D * D};
        scan.segments = output.segments;
        scan.states = states.states;
        const cudaError_t status = launch_segments<T, D>(scan, states, bytes, stream);
        if (status != cudaSuccess) {
          return status;
        }
      }
      const auto kernel = scan_tensor_kernel<T, D, kDirections>;
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
        status = launch_with_memory(scan_tensor_walks_kernel<T, D, kDirections>, blocks,
                                    TensorBlock<T, D, kDirections>::kThreads, bytes, stream,
                                    backward, maps);
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
