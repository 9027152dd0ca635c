#include "kernels/optimizer/adamw.h"

#include "kernels/optimizer/adamw_backend.h"

#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/stack.h>
#include <c10/util/Exception.h>

namespace comba::kernels {

at::Tensor total_norm(at::TensorList tensors) {
  TORCH_CHECK(!tensors.empty(), "total_norm: expected at least one tensor");
#ifdef COMBA_CUDA
  if (takes_step(tensors, false)) {
    return total_norm_cuda(tensors);
  }
#endif
  return at::stack(at::_foreach_norm(tensors, 2)).norm();
}

void adamw_(at::TensorList parameters, at::TensorList gradients, at::TensorList means,
            at::TensorList squares, const AdamwStep& step, const AdamwOptions& options) {
#ifdef COMBA_CUDA
  if (takes_step(parameters, true) && takes_step(gradients, false) && takes_step(means, true) &&
      takes_step(squares, true)) {
    adamw_cuda_(parameters, gradients, means, squares, step, options);
    return;
  }
#endif
  if (step.factor.defined()) {
    at::_foreach_mul_(gradients, step.factor);
  }
  const std::vector<at::Tensor> steps(parameters.size(), step.steps);
  at::_fused_adamw_(parameters, gradients, means, squares, {}, steps, step.lr, options.beta1,
                    options.beta2, options.weight_decay, options.eps, /*amsgrad=*/false,
                    /*maximize=*/false, /*grad_scale=*/{}, /*found_inf=*/step.skip);
}

}  // namespace comba::kernels
