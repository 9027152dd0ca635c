// The CUDA backend of comba::mlp: device guard, stream, weights as the kernels read them, gradients of the parameters.
#include "kernels/block/column_sums.h"
#include "kernels/block/element.h"
#include "kernels/block/mlp.h"
#include "kernels/block/mlp_kernels.h"
#include "kernels/block/mlp_operators.h"
#include "kernels/block/wide_product.h"

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace comba::kernels {
namespace {

bool takes(const MlpProblem& p) {
  const auto element = cuda::element_of(p.x);
  return element && p.weight2.size(0) == p.x.size(1) && cuda::aligned(p.x) &&
         cuda::mlp_takes(p.x.get_device(), *element, p.x.size(0), p.x.size(1), p.weight1.size(0));
}

// What the parameters hold keeps alive.
struct Launch {
  at::Tensor first, second, bias1, bias2;
  cuda::MlpParams params;
};

Launch prepare(const MlpProblem& p) {
  const auto wide = [](const at::Tensor& x) {
    return x.defined() ? x.to(at::kFloat).contiguous() : x;
  };
  const at::Tensor first = wide(p.weight1), second = wide(p.weight2);
  Launch launch{at::empty(first.sizes(), p.x.options()),
                at::empty(second.sizes(), p.x.options()),
                wide(p.bias1),
                wide(p.bias2),
                {}};
  C10_CUDA_CHECK(cuda::launch_mlp_arrange(
      *cuda::element_of(p.x),
      {first.const_data_ptr<float>(), second.const_data_ptr<float>(), launch.first.data_ptr(),
       launch.second.data_ptr(), p.weight1.size(0)},
      c10::cuda::getCurrentCUDAStream()));
  cuda::MlpParams& params = launch.params;
  params.x = p.x.const_data_ptr();
  params.first = launch.first.const_data_ptr();
  params.second = launch.second.const_data_ptr();
  params.bias1 = p.bias1.defined() ? launch.bias1.const_data_ptr<float>() : nullptr;
  params.bias2 = p.bias2.defined() ? launch.bias2.const_data_ptr<float>() : nullptr;
  params.rows = p.x.size(0);
  params.units = p.weight1.size(0);
  return launch;
}

at::Tensor forward(const MlpProblem& p) {
  if (!takes(p)) {
    return compose_mlp(p);
  }
  const c10::cuda::CUDAGuard guard(p.x.device());
  Launch launch = prepare(p);
  const at::Tensor y = at::empty(p.x.sizes(), p.x.options());
  launch.params.out = y.data_ptr();
  C10_CUDA_CHECK(
      cuda::launch_mlp(*cuda::element_of(p.x), launch.params, c10::cuda::getCurrentCUDAStream()));
  return y;
}

MlpGradients backward(const MlpProblem& p, const at::Tensor& grad_y) {
  if (!takes(p) || !cuda::aligned(grad_y)) {
    return compose_mlp_backward(p, grad_y);
  }
  const c10::cuda::CUDAGuard guard(p.x.device());
  MlpGradients g;
  g.x = at::empty(p.x.sizes(), p.x.options());
  at::Tensor hidden = at::empty({p.x.size(0), p.weight1.size(0)}, p.x.options());
  const at::Tensor grad_hidden = at::empty(hidden.sizes(), hidden.options());
  {
    Launch launch = prepare(p);
    launch.params.out = g.x.data_ptr();
    launch.params.grad_y = grad_y.const_data_ptr();
    launch.params.hidden = hidden.data_ptr();
    launch.params.grad_hidden = grad_hidden.data_ptr();
    C10_CUDA_CHECK(cuda::launch_mlp_backward(*cuda::element_of(p.x), launch.params,
                                             c10::cuda::getCurrentCUDAStream()));
  }
  g.weight2 = wide_product(grad_y.t(), hidden);
  hidden.reset();
  g.weight1 = wide_product(grad_hidden.t(), p.x);
  g.bias1 = p.bias1.defined() ? column_sums(grad_hidden) : at::Tensor();
  g.bias2 = p.bias2.defined() ? column_sums(grad_y) : at::Tensor();
  return g;
}

constexpr MlpBackend kBackend{&forward, &backward};

}  // namespace

bool mlp_is_one_kernel(const at::Tensor& x, at::ScalarType dtype, int64_t hidden) {
  const bool half = dtype == at::kHalf || dtype == at::kBFloat16;
  return half && x.is_cuda() && x.numel() > 0 &&
         cuda::mlp_takes(x.get_device(),
                         dtype == at::kHalf ? cuda::Element::float16 : cuda::Element::bfloat16,
                         x.numel() / x.size(-1), x.size(-1), hidden);
}

TORCH_LIBRARY_IMPL(comba, CUDA, m) { register_mlp<&kBackend>(m); }

}  // namespace comba::kernels
