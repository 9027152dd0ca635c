// The CUDA backend of comba::add_norm: device guard, stream, partial sums, launches.
#include "kernels/block/add_norm_kernels.h"
#include "kernels/block/add_norm_operators.h"
#include "kernels/block/element.h"
#include "kernels/cuda/partial_sums_cuda.h"

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace comba::kernels {
namespace {

template <typename T>
T* pointer(const at::Tensor& x) {
  return x.defined() ? static_cast<T*>(x.data_ptr()) : nullptr;
}

cuda::AddNormParams make_params(const AddNormProblem& p) {
  cuda::AddNormParams params;
  params.x = p.x.const_data_ptr();
  params.branch = pointer<void>(p.branch);
  params.share = pointer<float>(p.share);
  params.weight = pointer<float>(p.weight);
  params.bias = pointer<float>(p.bias);
  params.rows = p.x.size(0);
  params.rows_a_share = p.rows_a_share;
  params.width = static_cast<int>(p.x.size(1));
  params.eps = static_cast<float>(p.eps);
  params.centred = p.centred;
  return params;
}

bool takes(const at::Tensor& x, const at::Tensor& y) {
  const auto wide = cuda::element_of(x), other = cuda::element_of(y);
  return wide && other && cuda::add_norm_takes(*wide, *other, x.size(1));
}

// A branch of another kind than y is converted: only what is not trained has one.
void forward(const AddNormProblem& given, const at::Tensor& sum, const at::Tensor& y) {
  if (!takes(given.x, y)) {
    compose_add_norm(given, sum, y);
    return;
  }
  const c10::cuda::CUDAGuard guard(given.x.device());
  AddNormProblem problem = given;
  if (problem.branch.defined()) {
    problem.branch = problem.branch.to(y.scalar_type());
  }
  cuda::AddNormParams params = make_params(problem);
  params.sum = problem.branch.defined() ? sum.data_ptr() : nullptr;
  params.y = y.data_ptr();
  C10_CUDA_CHECK(cuda::launch_add_norm(*cuda::element_of(problem.x), *cuda::element_of(y), params,
                                       c10::cuda::getCurrentCUDAStream()));
}

void backward(const AddNormProblem& problem, const at::Tensor& grad_sum, const at::Tensor& grad_y,
              AddNormGradients& gradients) {
  const bool like_y =
      !gradients.branch.defined() || gradients.branch.scalar_type() == grad_y.scalar_type();
  if (!takes(problem.x, grad_y) || !like_y) {
    compose_add_norm_backward(problem, grad_sum, grad_y, gradients);
    return;
  }
  const c10::cuda::CUDAGuard guard(problem.x.device());
  cuda::AddNormGradientParams params;
  params.forward = make_params(problem);
  const at::Tensor up = grad_sum.defined() ? grad_sum.to(problem.x.scalar_type()) : grad_sum;
  params.grad_sum = pointer<void>(up);
  params.grad_y = grad_y.const_data_ptr();
  params.grad_x = gradients.x.data_ptr();
  params.grad_branch = pointer<void>(gradients.branch);
  params.partials = cuda::add_norm_partials(problem.x.size(0));
  const at::Tensor sums =
      at::empty({params.partials, 2, problem.x.size(1)}, problem.weight.options());
  params.sums = sums.mutable_data_ptr<float>();
  C10_CUDA_CHECK(cuda::launch_add_norm_backward(*cuda::element_of(problem.x),
                                                *cuda::element_of(grad_y), params,
                                                c10::cuda::getCurrentCUDAStream()));
  gradients.weight = sum_partials(sums.select(1, 0));
  if (gradients.bias.defined()) {
    gradients.bias = sum_partials(sums.select(1, 1));
  }
}

constexpr AddNormBackend kBackend{&forward, &backward};

}  // namespace

TORCH_LIBRARY_IMPL(comba, CUDA, m) { register_add_norm<&kBackend>(m); }

}  // namespace comba::kernels
