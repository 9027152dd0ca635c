// comba::join_columns on CUDA: device guard, stream.
#include "kernels/block/element.h"
#include "kernels/block/join_columns_kernel.h"
#include "kernels/block/join_columns_operators.h"

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

namespace comba::kernels {
namespace {

bool takes(const at::Tensor& first, const at::Tensor& second, int64_t width) {
  const auto kind = first.scalar_type();
  return (kind == at::kHalf || kind == at::kBFloat16) && second.scalar_type() == at::kFloat &&
         first.is_contiguous() && second.is_contiguous() && first.size(0) > 0 &&
         first.size(1) % cuda::kJoinPiece == 0 && width % cuda::kJoinPiece == 0 && width > 0 &&
         reinterpret_cast<uintptr_t>(first.const_data_ptr()) % 16 == 0;
}

at::Tensor join_columns_cuda(const at::Tensor& first, const at::Tensor& second, int64_t multiple) {
  const int64_t width = joined_width(first, second, multiple);
  if (!takes(first, second, width)) {
    return compose_join_columns(first, second, multiple);
  }
  const c10::cuda::CUDAGuard guard(first.device());
  const at::Tensor out = at::empty({first.size(0), width}, first.options());
  const cuda::JoinParams params{
      first.const_data_ptr(), second.const_data_ptr<float>(),  out.data_ptr(),
      first.size(0),          static_cast<int>(first.size(1)), static_cast<int>(second.size(1)),
      static_cast<int>(width)};
  C10_CUDA_CHECK(cuda::launch_join_columns(*cuda::element_of(first), params,
                                           c10::cuda::getCurrentCUDAStream()));
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(comba, CUDA, m) { m.impl("join_columns", &join_columns_cuda); }

}  // namespace comba::kernels
