// comba::patch_rows on CUDA: device guard, stream.
#include "kernels/block/element.h"
#include "kernels/block/patch_rows_kernel.h"
#include "kernels/block/patch_rows_operators.h"

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

namespace comba::kernels {
namespace {

bool takes(const at::Tensor& images, int64_t patch, at::ScalarType dtype) {
  return images.scalar_type() == at::kFloat && (dtype == at::kHalf || dtype == at::kBFloat16) &&
         images.dim() == 4 && images.is_contiguous() && images.numel() > 0 && patch > 0 &&
         patch % 8 == 0 && images.size(2) % patch == 0 && images.size(3) % patch == 0 &&
         images[0].numel() < int64_t{1} << 31 &&
         reinterpret_cast<uintptr_t>(images.const_data_ptr()) % 16 == 0;
}

at::Tensor patch_rows_cuda(const at::Tensor& images, int64_t patch, at::ScalarType dtype) {
  if (!takes(images, patch, dtype)) {
    return own_patch_rows(images, patch, dtype);
  }
  const c10::cuda::CUDAGuard guard(images.device());
  const int64_t batch = images.size(0), channels = images.size(1), height = images.size(2),
                width = images.size(3);
  const at::Tensor rows =
      at::empty({batch, height / patch * (width / patch), channels * patch * patch},
                images.options().dtype(dtype));
  const cuda::PatchParams params{
      images.const_data_ptr<float>(), rows.data_ptr(),          batch,
      static_cast<int>(channels),     static_cast<int>(height), static_cast<int>(width),
      static_cast<int>(patch)};
  C10_CUDA_CHECK(
      cuda::launch_patch_rows(*cuda::element_of(rows), params, c10::cuda::getCurrentCUDAStream()));
  return rows;
}

}  // namespace

TORCH_LIBRARY_IMPL(comba, CUDA, m) { m.impl("patch_rows", &patch_rows_cuda); }

}  // namespace comba::kernels
