// The CUDA backend of comba::causal_conv: device guard, stream, partial sums, launches.
#include "kernels/block/causal_conv_kernels.h"
#include "kernels/block/causal_conv_operators.h"
#include "kernels/block/element.h"
#include "kernels/cuda/partial_sums_cuda.h"

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace comba::kernels {
namespace {

// A problem as the kernels take it, whose missing first taps are zeros.
struct Launch {
  cuda::Element element;
  cuda::CausalConvParams params;
  at::Tensor taps;
};

std::optional<Launch> launch_of(const CausalConvProblem& problem) {
  const at::Tensor& x = problem.x;
  const int64_t missing = cuda::kConvTaps - problem.weight.size(1);
  const auto element = cuda::element_of(x);
  if (!element || missing < 0) {
    return std::nullopt;
  }
  cuda::CausalConvParams p;
  p.x = x.const_data_ptr();
  p.batch_stride = x.stride(0);
  p.time_stride = x.stride(1);
  p.batch = x.size(0);
  p.length = x.size(1);
  p.channels = x.size(2);
  if (!cuda::causal_conv_takes(*element, p)) {
    return std::nullopt;
  }
  const at::Tensor taps =
      missing > 0 ? at::constant_pad_nd(problem.weight, {missing, 0}) : problem.weight;
  p.weight = taps.const_data_ptr<float>();
  p.bias = problem.bias.defined() ? problem.bias.const_data_ptr<float>() : nullptr;
  p.silu = problem.options.silu;
  p.reverse = problem.options.reverse;
  return Launch{*element, p, taps};
}

at::Tensor forward(const CausalConvProblem& problem) {
  const c10::cuda::CUDAGuard guard(problem.x.device());
  std::optional<Launch> launch = launch_of(problem);
  if (!launch) {
    return compose_causal_conv(problem);
  }
  const at::Tensor y = at::empty(problem.x.sizes(), problem.x.options());
  launch->params.y = y.data_ptr();
  C10_CUDA_CHECK(
      cuda::launch_causal_conv(launch->element, launch->params, c10::cuda::getCurrentCUDAStream()));
  return y;
}

CausalConvGradients backward(const CausalConvProblem& problem, const at::Tensor& grad_y) {
  const c10::cuda::CUDAGuard guard(problem.x.device());
  std::optional<Launch> launch = launch_of(problem);
  if (!launch) {
    return compose_causal_conv_backward(problem, grad_y);
  }
  cuda::CausalConvParams& p = launch->params;
  p.partials = cuda::causal_conv_partials(launch->element, p);
  const at::Tensor dense = grad_y.contiguous(),
                   given = cuda::aligned(dense) ? dense : dense.clone(),
                   grad_x = at::empty(problem.x.sizes(), problem.x.options()),
                   sums = at::empty({p.partials, cuda::kConvTaps + 1, p.channels},
                                    problem.weight.options());
  p.grad_y = given.const_data_ptr();
  p.grad_x = grad_x.data_ptr();
  p.sums = sums.mutable_data_ptr<float>();
  C10_CUDA_CHECK(
      cuda::launch_causal_conv_backward(launch->element, p, c10::cuda::getCurrentCUDAStream()));
  const at::Tensor all = sum_partials(sums);  // [kConvTaps + 1, C]
  const int64_t taps = problem.weight.size(1);
  return {grad_x, all.narrow(0, cuda::kConvTaps - taps, taps).t().contiguous(),
          problem.bias.defined() ? all.select(0, cuda::kConvTaps).clone() : at::Tensor()};
}

constexpr CausalConvBackend kBackend{&forward, &backward};

}  // namespace

TORCH_LIBRARY_IMPL(comba, CUDA, m) { register_causal_conv<&kBackend>(m); }

}  // namespace comba::kernels
