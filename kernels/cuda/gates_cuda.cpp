// The CUDA backend of the gates' operator: device guard, stream, partial sums, launches.
#include "kernels/cuda/gates_cuda.h"

#include "kernels/cuda/partial_sums_cuda.h"
#include "kernels/gates_operators.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace comba::kernels {
namespace {

cuda::GateParams make_params(const GateProblem& p) {
  cuda::GateParams params;
  params.raw = p.raw.const_data_ptr<float>();
  params.stride = p.token_stride;
  params.A_log = p.A_log.const_data_ptr<float>();
  params.dt_bias = p.dt_bias.const_data_ptr<float>();
  params.decay = p.decay.defined() ? p.decay.const_data_ptr<float>() : nullptr;
  params.feedback = static_cast<float>(p.feedback);
  params.tokens = p.raw.size(0) * p.raw.size(1);
  params.heads = p.raw.size(4);
  params.directions = static_cast<int>(p.raw.size(3));
  return params;
}

void forward(const GateProblem& problem, const GateTensors& gates) {
  if (problem.raw.numel() == 0) {
    return;
  }
  const c10::cuda::CUDAGuard guard(problem.raw.device());
  const auto& [log_alpha, beta, c] = gates;
  C10_CUDA_CHECK(
      cuda::launch_gates(make_params(problem),
                         {log_alpha.data_ptr<float>(), beta.data_ptr<float>(), c.data_ptr<float>()},
                         c10::cuda::getCurrentCUDAStream()));
}

at::Tensor backward(const GateProblem& problem, const GateTensors& grads,
                    const at::Tensor& grad_raw) {
  const int64_t directions = problem.raw.size(3), heads = problem.raw.size(4);
  const auto options = problem.raw.options();
  if (problem.raw.numel() == 0) {
    return at::zeros({3, directions, heads}, options);
  }
  const c10::cuda::CUDAGuard guard(problem.raw.device());
  const at::Tensor partial = at::empty({cuda::kGatePartials, 3, directions, heads}, options);
  const auto& [grad_log_alpha, grad_beta, grad_c] = grads;
  C10_CUDA_CHECK(cuda::launch_gates_backward(
      make_params(problem),
      {grad_log_alpha.const_data_ptr<float>(), grad_beta.const_data_ptr<float>(),
       grad_c.const_data_ptr<float>(), grad_raw.data_ptr<float>(), partial.data_ptr<float>()},
      c10::cuda::getCurrentCUDAStream()));
  return sum_partials(partial);
}

constexpr GateBackend kBackend{&forward, &backward};

}  // namespace

TORCH_LIBRARY_IMPL(comba, CUDA, m) { register_gate_operators<&kBackend>(m); }

}  // namespace comba::kernels
