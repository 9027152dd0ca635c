// Partial sums of a launch as tensors.
#pragma once

#include "kernels/cuda/partial_sums.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>

namespace comba::kernels {

// fp32 [partials, ...], dense within a row -> [...]. The caller holds the device guard.
inline at::Tensor sum_partials(const at::Tensor& partial) {
  at::Tensor out = at::empty(partial.sizes().slice(1), partial.options());
  if (out.numel() > 0) {
    C10_CUDA_CHECK(cuda::launch_sum_partials(
        partial.const_data_ptr<float>(), partial.size(0), out.numel(), partial.stride(0),
        out.mutable_data_ptr<float>(), c10::cuda::getCurrentCUDAStream()));
  }
  return out;
}

}  // namespace comba::kernels
