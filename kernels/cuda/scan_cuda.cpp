// The CUDA backend of the scan operators: device guard, stream, scratch memory, launches.
#include "kernels/cuda/scan_cuda.h"

#include "kernels/cuda/tensor_cores.h"
#include "kernels/scan_operators.h"

#include <limits>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/sum.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <torch/library.h>

namespace comba::kernels {
namespace {

using namespace cuda;  // NOLINT(google-build-using-namespace): our own launchers, not CUDA's

// Scratch of one pass of the backward; more tasks than fit run in several passes, in a fixed order. On tensor cores as
// many blocks as fill a large device run at a time, whatever their scratch.
constexpr int64_t kScratchBytes = int64_t{1} << 30, kTensorScratchBytes = int64_t{1} << 29;
constexpr int64_t kTensorBlocks = 528;

constexpr int64_t kBatchAndSpansDims[] = {1, 3};
constexpr at::IntArrayRef kBatchAndSpans = kBatchAndSpansDims;

// Calls body with the launchers of the inputs' dtype.
template <typename Body>
void with_launcher(const ScanProblem& problem, const Body& body) {
  switch (problem.q.scalar_type()) {
    case at::kFloat:
      return body(ScanLauncher<float>());
    case at::kHalf:
      return body(ScanLauncher<__half>());
    case at::kBFloat16:
      return body(ScanLauncher<__nv_bfloat16>());
    default:
      TORCH_CHECK(false, "comba::scan: q: dtype ", problem.q.scalar_type(),
                  " is not built for CUDA");
  }
}

void forward(const ScanProblem& problem, const ScanResult& result) {
  const c10::cuda::CUDAGuard guard(problem.q.device());
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const auto params = make_params<float>(problem);
  const ScanOutputs<float> outputs{result.o.data_ptr<float>(),
                                   result.final_state.data_ptr<float>()};
  ScanScratch scratch;
  scratch.count = params.tasks();
  if (scratch.count == 0) {
    return;
  }
  with_launcher(problem, [&](auto launcher) {
    C10_CUDA_CHECK(launcher.forward(params, outputs, scratch, stream));
  });
}

int device_attribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  C10_CUDA_CHECK(cudaGetDevice(&device));
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&value, attribute, device));
  return value;
}

// Rows [R, B, T, H, D] that 16-byte copies can read: aligned, every stride a multiple of 8 elements, that of time in 32
// bits.
bool aligned_rows(const at::Tensor& x) {
  const auto strides = x.strides();
  return reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0 &&
         strides[2] <= std::numeric_limits<int32_t>::max() &&
         std::all_of(strides.begin(), strides.end() - 1,
                     [](int64_t stride) { return stride % 8 == 0; });
}

bool half_width(const ScanProblem& problem) { return problem.q.scalar_type() != at::kFloat; }

}  // namespace

bool cuda::takes_tensor_cores(const ScanProblem& problem) {
  const int64_t dim = problem.q.size(4);
  return problem.v.size(4) == dim && (dim == 32 || dim == 64 || dim == 128) &&
         problem.q.size(2) > 16 && problem.q.numel() > 0 && aligned_rows(problem.q) &&
         aligned_rows(problem.k) && aligned_rows(problem.v);
}

namespace {

// Launches on the tensor cores, if this device has them and a block's shared memory holds what it needs: all rows where a
// block serves both directions, a few chunks' where it serves one. `launch(launcher, shared_rows, shared_limit)`; false:
// nothing was launched.
template <typename Launch>
bool launch_on_tensor_cores(const ScanProblem& problem, bool shared_rows, const Launch& launch) {
  if (device_attribute(cudaDevAttrComputeCapabilityMajor) < 8) {
    return false;
  }
  const int limit = device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  cudaError_t status = cudaErrorInvalidConfiguration;
  with_launcher(problem, [&](auto launcher) { status = launch(launcher, shared_rows, limit); });
  if (status == cudaErrorInvalidConfiguration) {
    return false;
  }
  C10_CUDA_CHECK(status);
  return true;
}

at::Tensor bidirectional(const ScanProblem& problem, std::string_view merge) {
  if (!takes_tensor_cores(problem)) {
    return {};
  }
  const c10::cuda::CUDAGuard guard(problem.q.device());
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const auto options = problem.q.options();
  auto params = make_params<float>(problem);
  const bool shared_rows = problem.directions() == 2 && problem.q.stride(0) == 0 &&
                           problem.k.stride(0) == 0 && problem.v.stride(0) == 0;
  const bool merged = merge != "none";
  params.scale = merge == "mean" ? 0.5F * params.scale : params.scale;
  at::Tensor o, segment_states;
  const auto launch_into = [&](bool added) {
    o = at::empty(added ? problem.v.sizes().slice(1) : problem.v.sizes(), options);
    TensorOutput output{o.data_ptr(), added};
    if (!added && half_width(problem)) {
      output.segments = tensor_segments(params.tasks(), params.length, params.key_dim);
      segment_states =
          at::empty({tensor_segment_floats(params.tasks(), output.segments, params.length,
                                           params.key_dim, /*gradients=*/false)},
                    options.dtype(at::kFloat));
      output.segment_states = segment_states.data_ptr<float>();
    }
    return [&, output](auto launcher, bool shared, int limit) {
      return launcher.tensor(params, output, shared, limit, stream);
    };
  };
  if (shared_rows && launch_on_tensor_cores(problem, true, launch_into(merged))) {
    return o;
  }
  if (!launch_on_tensor_cores(problem, false, launch_into(false))) {
    return {};
  }
  return merged ? o[0] + o[1] : o;
}

// The scratch tensors, kept alive while the kernels are queued.
struct ScratchMemory {
  at::Tensor update, grad_update, state, grad_state;

  ScratchMemory(const ScanParams<float>& p, int64_t count, int64_t chunks,
                const at::TensorOptions& options)
      : update(at::empty({count, p.length, p.value_dim}, options)),
        grad_update(at::empty({count, p.length, p.value_dim}, options)),
        state(at::empty({count, chunks, p.key_dim, p.value_dim}, options)),
        grad_state(at::empty({count, chunks, p.key_dim, p.value_dim}, options)) {}
};

void backward(const ScanProblem& problem, const at::Tensor& grad_o,
              const at::Tensor& grad_final_state, const ScanGradientResult& result) {
  const c10::cuda::CUDAGuard guard(problem.q.device());
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const auto params = make_params<float>(problem);
  const auto gradients = make_gradients<float>(result, grad_o, grad_final_state);
  const int64_t tasks = params.tasks();
  if (tasks == 0) {
    return;
  }
  ScanScratch scratch;
  scratch.chunks = (params.length + kScanChunk - 1) / kScanChunk;
  const int64_t floats_per_task =
      2 * params.value_dim * (params.length + scratch.chunks * params.key_dim);
  const int64_t bytes_per_task = std::max<int64_t>(1, floats_per_task * int64_t{sizeof(float)});
  const int64_t per_pass = std::clamp<int64_t>(kScratchBytes / bytes_per_task, 1, tasks);
  const auto options = problem.log_alpha.options();
  const ScratchMemory memory(params, per_pass, scratch.chunks, options);
  const at::Tensor grad_d = at::empty({tasks, scratch.chunks}, options);
  scratch.update = memory.update.data_ptr<float>();
  scratch.grad_update = memory.grad_update.data_ptr<float>();
  scratch.state = memory.state.data_ptr<float>();
  scratch.grad_state = memory.grad_state.data_ptr<float>();
  with_launcher(problem, [&](auto launcher) {
    for (scratch.first = 0; scratch.first < tasks; scratch.first += per_pass) {
      scratch.count = std::min(per_pass, tasks - scratch.first);
      C10_CUDA_CHECK(launcher.forward(params, ScanOutputs<float>(), scratch, stream));
      C10_CUDA_CHECK(launcher.reverse(params, gradients, scratch, stream));
      if (scratch.chunks > 0) {
        float* partial = grad_d.data_ptr<float>() + scratch.first * scratch.chunks;
        C10_CUDA_CHECK(launcher.gradients(params, gradients, partial, scratch, stream));
      }
    }
  });
  at::Tensor summed = result.d.view({tasks});
  at::sum_out(summed, grad_d, 1);
}

// What launch_on_tensor_cores fills, and the tensors behind its pointers.
struct TensorGradientMemory {
  ScanGradientResult result;
  at::Tensor rows, grad_d, scratch, segment_states;
  TensorGradients pointers;

  // `joined`: one gradient of q, k, v for both directions.
  TensorGradientMemory(const ScanProblem& problem, const at::Tensor& grad_o, bool joined)
      : rows(grad_o) {
    const auto options = problem.q.options(), gate_options = problem.log_alpha.options();
    const auto sizes = joined ? problem.q.sizes().slice(1) : problem.q.sizes();
    const int64_t length = problem.q.size(2), directions = problem.q.size(0);
    const int64_t blocks = (joined ? 1 : directions) * problem.q.size(1) * problem.q.size(3);
    const int64_t block_bytes = tensor_scratch_bytes(length, problem.q.size(4), joined);
    result.q = at::empty(sizes, options);
    result.k = at::empty(sizes, options);
    result.v = at::empty(sizes, options);
    result.log_alpha = at::empty_like(problem.log_alpha);
    result.beta = at::empty_like(problem.beta);
    result.c = at::empty_like(problem.c);
    grad_d = at::empty({directions, problem.q.size(1), problem.q.size(3), tensor_spans(length)},
                       gate_options);
    const int64_t dim = problem.q.size(4);
    pointers.segments = joined ? 1 : tensor_segments(blocks, length, dim);
    const int64_t full = (kTensorBlocks + pointers.segments - 1) / pointers.segments;
    const int64_t at_a_time = std::min(blocks, std::max(full, kTensorScratchBytes / block_bytes));
    scratch = at::empty({at_a_time * block_bytes}, options.dtype(at::kByte));
    segment_states = at::empty(
        {tensor_segment_floats(at_a_time, pointers.segments, length, dim, /*gradients=*/true)},
        gate_options);
    pointers.segment_states = segment_states.data_ptr<float>();
    pointers.grad_o = rows.const_data_ptr();
    pointers.grad_o_strides = {rows.stride(0), rows.stride(1), rows.stride(2), rows.stride(3)};
    pointers.grad_q = result.q.data_ptr();
    pointers.grad_k = result.k.data_ptr();
    pointers.grad_v = result.v.data_ptr();
    pointers.grad_log_alpha = result.log_alpha.data_ptr<float>();
    pointers.grad_beta = result.beta.data_ptr<float>();
    pointers.grad_c = result.c.data_ptr<float>();
    pointers.grad_d = grad_d.data_ptr<float>();
    pointers.scratch = scratch.data_ptr();
    pointers.scratch_bytes = scratch.numel();
  }
};

bool bidirectional_backward(const ScanProblem& problem, const at::Tensor& grad_o,
                            std::string_view merge, bool shared_rows, ScanGradientResult& result) {
  if (!half_width(problem) || !takes_tensor_cores(problem)) {
    return false;
  }
  const c10::cuda::CUDAGuard guard(problem.q.device());
  auto params = make_params<float>(problem);
  if (merge == "mean") {
    params.scale *= 0.5F;
  }
  at::Tensor rows = merge == "none" ? grad_o : grad_o.unsqueeze(0).expand(problem.v.sizes());
  if (rows.stride(-1) != 1 || !aligned_rows(rows)) {
    rows = rows.contiguous();
  }
  const auto attempt = [&](bool joined) {
    const TensorGradientMemory memory(problem, rows, joined);
    const bool done =
        launch_on_tensor_cores(problem, joined, [&](auto launcher, bool shared, int limit) {
          return launcher.tensor_backward(params, memory.pointers, shared, limit,
                                          c10::cuda::getCurrentCUDAStream());
        });
    result = memory.result;
    result.d = memory.grad_d.sum(kBatchAndSpans);
    return done;
  };
  return (shared_rows && merge != "none" && attempt(true)) || attempt(false);
}

constexpr ScanBackend kBackend{&forward, &backward, &bidirectional, &bidirectional_backward};

}  // namespace

TORCH_LIBRARY_IMPL(comba, CUDA, m) { register_scan_operators<&kBackend>(m); }

}  // namespace comba::kernels
