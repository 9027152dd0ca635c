// Plans of training images as the tables of the operators that carry them out (kernels/image/), to the bits of the CPU's path:
// datasets::carry_out(), Normaliser, erase_() and mix_images().
#pragma once

#include "classify/mixing.h"
#include "datasets/erase.h"
#include "datasets/image_plan.h"
#include "kernels/image/augment_images.h"
#include "kernels/image/normalise_images.h"

#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::classify {

// All images of one size; `pixels` [N] uint8 RGB, on any device.
kernels::image::AugmentInputs augment_inputs(const at::Tensor& pixels,
                                             const std::vector<datasets::PlacedImage>& images);

// Adds what is erased of images of side x side px; keys [B].
void add_erasing(kernels::image::NormaliseInputs& inputs, const datasets::EraseOptions& options,
                 const std::vector<datasets::SampleKey>& keys);
// Adds what images are mixed with; nothing where `mixes` is empty.
void add_mixing(kernels::image::NormaliseInputs& inputs, const std::vector<Mix>& mixes);

}  // namespace comba::classify
