#include "kernels/image/augment_images.h"

#include <ATen/core/dispatch/Dispatcher.h>

namespace comba::kernels::image {

at::Tensor augment_images(const AugmentInputs& inputs) {
  using Signature = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                               at::IntArrayRef, at::IntArrayRef);
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("comba::augment_images", "")
                             .typed<Signature>();
  return op.call(inputs.pixels, inputs.images, inputs.steps, {inputs.height, inputs.width},
                 inputs.fill);
}

}  // namespace comba::kernels::image
