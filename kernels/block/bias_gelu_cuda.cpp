// The CUDA backend of comba::bias_gelu: device guard, stream, partial sums, launches.
#include "kernels/block/bias_gelu_kernels.h"
#include "kernels/block/bias_gelu_operators.h"
#include "kernels/block/element.h"
#include "kernels/cuda/partial_sums_cuda.h"

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace comba::kernels {
namespace {

bool takes(const at::Tensor& x) {
  const auto element = cuda::element_of(x);
  return element && cuda::bias_gelu_takes(*element, x.size(1));
}

cuda::BiasGeluParams make_params(const at::Tensor& x, const at::Tensor& bias) {
  cuda::BiasGeluParams p;
  p.x = x.const_data_ptr();
  p.bias = bias.defined() ? bias.const_data_ptr<float>() : nullptr;
  p.rows = x.size(0);
  p.width = x.size(1);
  p.partials = cuda::bias_gelu_partials(*cuda::element_of(x), p);
  return p;
}

void forward(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& y) {
  if (!takes(x)) {
    compose_bias_gelu(x, bias, y);
    return;
  }
  const c10::cuda::CUDAGuard guard(x.device());
  cuda::BiasGeluParams p = make_params(x, bias);
  p.y = y.data_ptr();
  C10_CUDA_CHECK(
      cuda::launch_bias_gelu(*cuda::element_of(x), p, c10::cuda::getCurrentCUDAStream()));
}

at::Tensor backward(const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor& bias,
                    const at::Tensor& grad_x) {
  if (!takes(x)) {
    return compose_bias_gelu_backward(grad_y, x, bias, grad_x);
  }
  const c10::cuda::CUDAGuard guard(x.device());
  cuda::BiasGeluParams p = make_params(x, bias);
  p.grad_y = grad_y.const_data_ptr();
  p.grad_x = grad_x.data_ptr();
  at::Tensor sums;
  if (bias.defined()) {
    sums = at::empty({p.partials, p.width}, bias.options());
    p.sums = sums.mutable_data_ptr<float>();
  }
  C10_CUDA_CHECK(
      cuda::launch_bias_gelu_backward(*cuda::element_of(x), p, c10::cuda::getCurrentCUDAStream()));
  return sums.defined() ? sum_partials(sums) : sums;
}

constexpr BiasGeluBackend kBackend{&forward, &backward};

}  // namespace

TORCH_LIBRARY_IMPL(comba, CUDA, m) { register_bias_gelu<&kBackend>(m); }

}  // namespace comba::kernels
