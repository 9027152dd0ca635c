#include "kernels/block/patch_rows.h"

#include "kernels/block/patch_rows_operators.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

namespace comba::kernels {
namespace {

at::Tensor patch_rows_cpu(const at::Tensor& images, int64_t patch, at::ScalarType dtype) {
  return own_patch_rows(images, patch, dtype);
}

at::Tensor patch_rows_meta(const at::Tensor& images, int64_t patch, at::ScalarType dtype) {
  const auto count = images.sym_size(2) / patch * (images.sym_size(3) / patch);
  return at::empty_symint({images.sym_size(0), count, images.sym_size(1) * patch * patch},
                          images.options().dtype(dtype));
}

}  // namespace

at::Tensor compose_patch_rows(const at::Tensor& images, int64_t patch, at::ScalarType dtype) {
  TORCH_CHECK(
      images.dim() == 4 && patch > 0 && images.size(2) % patch == 0 && images.size(3) % patch == 0,
      "comba::patch_rows: images: expected [B, C, H, W] with sides that are multiples of ", patch,
      ", got ", images.sizes());
  return images.to(dtype)
      .unflatten(3, {images.size(3) / patch, patch})
      .unflatten(2, {images.size(2) / patch, patch})
      .permute({0, 2, 4, 1, 3, 5})
      .flatten(3)
      .flatten(1, 2);
}

at::Tensor own_patch_rows(const at::Tensor& images, int64_t patch, at::ScalarType dtype) {
  const at::Tensor rows = compose_patch_rows(images, patch, dtype).contiguous();
  return rows.is_alias_of(images) ? rows.clone() : rows;
}

at::Tensor patch_rows(const at::Tensor& images, int64_t patch, at::ScalarType dtype) {
  if (!images.is_cuda() || (images.requires_grad() && c10::GradMode::is_enabled())) {
    return compose_patch_rows(images, patch, dtype);
  }
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("comba::patch_rows", "")
                             .typed<at::Tensor(const at::Tensor&, int64_t, at::ScalarType)>();
  return op.call(images, patch, dtype);
}

TORCH_LIBRARY_IMPL(comba, CPU, m) { m.impl("patch_rows", &patch_rows_cpu); }
TORCH_LIBRARY_IMPL(comba, Meta, m) { m.impl("patch_rows", &patch_rows_meta); }
TORCH_LIBRARY_IMPL(comba, Autograd, m) {
  m.impl("patch_rows", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace comba::kernels
