// Boxes of a batch of images -> images of one size, mirrored and augmented, to the same bits on every device: resizing as
// Pillow's antialiased bicubic (a = -1/2), operations as those that RandAugment and 3-Augment take from Pillow 12.
//
// A row of `images` is {offset, height, width, y, x, box height, box width, flip}: the image's first byte among the
// pixels, its size, the box that is wanted (px; edges may cut pixels, which then count as a whole) and 1 to mirror it.
//
// A row of `steps` is {operation, six arguments}; what an operation does not take is 0. With L the luminance
// (19595 R + 38470 G + 7471 B + 2^15) / 2^16 and blend(a, b, f) = a + f (b - a), truncated to 0..255:
//
//    0  nothing
//    1  auto_contrast            each channel's range stretched to 0..255
//    2  equalize                 each channel's histogram evened out
//    3  contrast f               blend(mean of L, v, f)
//    4  invert                   255 - v
//    5  posterize n              keeps the highest n bits, 0..8
//    6  solarize t               inverts what is at least t, 0..256
//    7  solarize_add n           adds n, 0..255, to what is below 128, up to 255
//    8  brightness f             f v
//    9  colour f                 blend(L, v, f)
//   10  grayscale                L
//   11  sharpness f              blend(s, v, f), s the mean of 3 x 3 pixels with five times the middle, at the border v
//   12  affine a b c d e f       bicubic (a = -1) samples at (a x + b y + c, d x + e y + f) for the centre (x, y) of
//                                every pixel; what lies outside is `fill`
//   13  box_blur r               three times along rows, then along columns; the mean of 2 r + 1 px, r fractional
#pragma once

#include <array>
#include <cstdint>

#include <ATen/core/Tensor.h>

namespace comba::kernels::image {

struct AugmentInputs {
  at::Tensor pixels;                              // [N] uint8: RGB, rows from the top, no padding
  at::Tensor images;                              // [B, 8] fp64 on the CPU
  at::Tensor steps;                               // [B, K, 7] fp64 on the CPU: done in this order
  int64_t height = 224, width = 224;              // px, of the outputs
  std::array<int64_t, 3> fill = {124, 116, 104};  // ImageNet's mean colour
};

// Returns [B, height, width, 3] uint8 where the pixels are. Throws c10::Error naming the argument, what was expected and what
// was found.
at::Tensor augment_images(const AugmentInputs& inputs);

}  // namespace comba::kernels::image
