// comba::column_sums on CUDA: device guard, stream, partial sums.
#include "kernels/block/column_sums_kernel.h"
#include "kernels/block/element.h"
#include "kernels/cuda/partial_sums_cuda.h"

#include <ATen/ops/sum.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

namespace comba::kernels {
namespace {

at::Tensor column_sums_cuda(const at::Tensor& x) {
  const auto element = cuda::element_of(x);
  if (!element || x.numel() == 0 || !cuda::column_sums_takes(*element, x.size(-1))) {
    const auto wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    return x.flatten(0, -2).sum(0, /*keepdim=*/false, wide);
  }
  const c10::cuda::CUDAGuard guard(x.device());
  const at::Tensor dense = x.contiguous();
  const int64_t width = x.size(-1), rows = x.numel() / width,
                partials = cuda::column_sums_partials(*element, rows, width);
  const at::Tensor sums = at::empty({partials, width}, x.options().dtype(at::kFloat));
  C10_CUDA_CHECK(cuda::launch_column_sums(*element, dense.const_data_ptr(), rows, width, partials,
                                          sums.mutable_data_ptr<float>(),
                                          c10::cuda::getCurrentCUDAStream()));
  return sum_partials(sums);
}

}  // namespace

TORCH_LIBRARY_IMPL(comba, CUDA, m) { m.impl("column_sums", &column_sums_cuda); }

}  // namespace comba::kernels
