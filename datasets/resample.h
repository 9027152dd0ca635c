// Resizing as Pillow does it (antialiased, horizontal pass first, 8 bits between the passes; src/libImaging/Resample.c at
// 12), to the bit: a model's top-1 moves by tenths of a point with another filter.
#pragma once

#include "datasets/decode.h"

namespace comba::datasets {

enum class ResampleFilter { bilinear, bicubic };  // triangle; Keys' cubic with a = -1/2

// The box of the image as height x width pixels; nothing outside the box is looked at.
Image resample(const Image& image, const ImageBox& box, int height, int width,
               ResampleFilter filter = ResampleFilter::bicubic);

// A box whose edges may cut pixels: these count as a whole, nothing beyond them.
Image resample(const DecodedPart& part, int height, int width,
               ResampleFilter filter = ResampleFilter::bicubic);

}  // namespace comba::datasets
