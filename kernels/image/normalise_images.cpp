#include "kernels/image/normalise_images.h"

#include <ATen/core/dispatch/Dispatcher.h>

namespace comba::kernels::image {

at::Tensor normalise_images(const NormaliseInputs& in) {
  using Optional = std::optional<at::Tensor>;
  using Signature = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                               const Optional&, const Optional&, const Optional&, std::string_view,
                               const Optional&, std::optional<at::ScalarType>);
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("comba::normalise_images", "")
                             .typed<Signature>();
  const auto given = [](const at::Tensor& x) { return x.defined() ? Optional(x) : std::nullopt; };
  return op.call(in.pixels, in.scale, in.shift, given(in.boxes), given(in.streams), given(in.noise),
                 in.mode, given(in.mixes), in.dtype);
}

}  // namespace comba::kernels::image
