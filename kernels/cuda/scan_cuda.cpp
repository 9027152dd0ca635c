// The CUDA backend of the scan operators: device guard, stream, scratch memory, launches.
#include "kernels/cuda/scan_cuda.h"

#include "kernels/scan_operators.h"

#include <ATen/ops/empty.h>
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

// Scratch of one pass of the backward; more tasks than fit run in several passes, in a fixed order.
constexpr int64_t kScratchBytes = int64_t{1} << 30;

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

constexpr ScanBackend kBackend{&forward, &backward};

}  // namespace

TORCH_LIBRARY_IMPL(comba, CUDA, m) { register_scan_operators<&kBackend>(m); }

}  // namespace comba::kernels
