// The CUDA backend of comba::selective_scan: device guard, stream, scratch, launches, sums of parts.
#include "kernels/block/element.h"
#include "kernels/cuda/partial_sums_cuda.h"
#include "kernels/selective_scan/selective_scan_kernels.h"
#include "kernels/selective_scan/selective_scan_operators.h"

#include <limits>

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace comba::kernels {
namespace {

cuda::TokenRows rows_of(const at::Tensor& x) {
  return x.defined() ? cuda::TokenRows{x.const_data_ptr(), x.stride(0), x.stride(1)}
                     : cuda::TokenRows{};
}

const float* values_of(const at::Tensor& x) {
  return x.defined() ? x.const_data_ptr<float>() : nullptr;
}

cuda::SelectiveScanParams make_params(const SelectiveScanProblem& problem) {
  cuda::SelectiveScanParams p;
  p.u = rows_of(problem.u);
  p.delta = rows_of(problem.delta);
  p.z = rows_of(problem.z);
  p.B = rows_of(problem.B);
  p.C = rows_of(problem.C);
  p.A = values_of(problem.A);
  p.D = values_of(problem.D);
  p.delta_bias = values_of(problem.delta_bias);
  p.batch = problem.batch();
  p.length = problem.length();
  p.channels = problem.channels();
  p.reverse = problem.reverse;
  TORCH_CHECK(p.batch * p.channel_blocks() <= std::numeric_limits<int32_t>::max(),
              "comba::selective_scan: u: expected at most 2^31 - 1 batch elements times blocks of ",
              cuda::kScanChannels, " channels, got ", problem.u.sizes());
  return p;
}

void forward(const SelectiveScanProblem& problem, const at::Tensor& y) {
  const c10::cuda::CUDAGuard guard(problem.u.device());
  cuda::SelectiveScanParams p = make_params(problem);
  p.y = y.data_ptr();
  C10_CUDA_CHECK(cuda::launch_selective_scan(*cuda::element_of(problem.u), p,
                                             c10::cuda::getCurrentCUDAStream()));
}

void backward(const SelectiveScanProblem& problem, const at::Tensor& grad_y,
              SelectiveScanGradients& gradients) {
  const c10::cuda::CUDAGuard guard(problem.u.device());
  cuda::SelectiveScanGradientParams p;
  p.forward = make_params(problem);
  const int64_t batch = p.forward.batch, length = p.forward.length, channels = p.forward.channels;
  const auto floats = [&](at::IntArrayRef sizes) { return at::empty(sizes, problem.A.options()); };
  const int64_t states = cuda::kScanStates;
  const at::Tensor kept = floats({batch, p.forward.chunks(), states, channels}),
                   write_read = floats({p.forward.channel_blocks(), batch, length, 2 * states}),
                   rates = floats({batch, states, channels}),
                   scalars = floats({batch, 2, channels});
  p.grad_y = grad_y.const_data_ptr();
  p.grad_u = gradients.u.data_ptr();
  p.grad_delta = gradients.delta.data_ptr();
  p.grad_z = gradients.z.defined() ? gradients.z.data_ptr() : nullptr;
  p.states = kept.mutable_data_ptr<float>();
  p.write_read = write_read.mutable_data_ptr<float>();
  p.rates = rates.mutable_data_ptr<float>();
  p.scalars = scalars.mutable_data_ptr<float>();
  C10_CUDA_CHECK(cuda::launch_selective_scan_backward(*cuda::element_of(problem.u), p,
                                                      c10::cuda::getCurrentCUDAStream()));
  const at::Tensor both = sum_partials(write_read), single = sum_partials(scalars);
  gradients.A = sum_partials(rates).t().contiguous();
  gradients.B = both.narrow(2, 0, states);
  gradients.C = both.narrow(2, states, states);
  gradients.D = single.select(0, 0).clone();  // outputs of an operator share no memory
  gradients.delta_bias = single.select(0, 1).clone();
}

constexpr SelectiveScanBackend kBackend{&forward, &backward};

}  // namespace

TORCH_LIBRARY_IMPL(comba, CUDA, m) { register_selective_scan<&kBackend>(m); }

}  // namespace comba::kernels
