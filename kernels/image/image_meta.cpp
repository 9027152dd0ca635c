// Shapes and dtypes of the image operators.
#include <optional>
#include <string_view>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

namespace comba::kernels::image {
namespace {

using Optional = std::optional<at::Tensor>;

at::Tensor augment_images_meta(const at::Tensor& pixels, const at::Tensor& images,
                               const at::Tensor&, at::IntArrayRef size, at::IntArrayRef) {
  TORCH_CHECK(images.dim() == 2, "comba::augment_images: images: expected [B, 8], got ",
              images.sizes());
  TORCH_CHECK(size.size() == 2, "comba::augment_images: size: expected {height, width}, got ",
              size);
  const c10::SymDimVector sizes = {images.sym_size(0), size[0], size[1], 3};
  return at::empty_symint(sizes, pixels.options());
}

at::Tensor normalise_images_meta(const at::Tensor& pixels, const at::Tensor&, const at::Tensor&,
                                 const Optional&, const Optional&, const Optional&,
                                 std::string_view, const Optional&,
                                 std::optional<at::ScalarType> dtype) {
  TORCH_CHECK(pixels.dim() == 4, "comba::normalise_images: pixels: expected [B, S, S, C], got ",
              pixels.sizes());
  const c10::SymDimVector sizes = {pixels.sym_size(0), pixels.sym_size(3), pixels.sym_size(1),
                                   pixels.sym_size(2)};
  return at::empty_symint(sizes, pixels.options().dtype(dtype.value_or(at::kFloat)));
}

}  // namespace

TORCH_LIBRARY_IMPL(comba, Meta, m) {
  m.impl("augment_images", &augment_images_meta);
  m.impl("normalise_images", &normalise_images_meta);
}

}  // namespace comba::kernels::image
