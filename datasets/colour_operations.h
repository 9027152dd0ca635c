// Operations on the colours of an image that Pillow defines, in place and to the bit. RGB images, unless said.
#pragma once

#include "datasets/image.h"

namespace comba::datasets {

// Channel by channel.
void invert(Image& image);
void solarize(Image& image, int threshold);   // inverts values of at least `threshold`
void solarize_add(Image& image, int amount);  // to values below 128, up to 255
void posterize(Image& image, int bits);       // keeps the highest `bits`, 0..8; 0: black
void auto_contrast(Image& image);             // stretches each channel's range to 0..255
void equalize(Image& image);                  // evens out each channel's histogram
// Blends with a degenerate image: 0 gives that, 1 changes nothing, more goes beyond.
void adjust_brightness(Image& image, float factor);  // black
void adjust_contrast(Image& image, float factor);    // grey, of the image's mean luminance
void adjust_colour(Image& image, float factor);      // the image in grey
void adjust_sharpness(Image& image, float factor);   // the image smoothed
void grayscale(Image& image);
// Pillow's: three box blurs whose variance is that of the Gaussian, with fractional edges. radius > 0, px.
void gaussian_blur(Image& image, float radius);
// Of each of these boxes.
float box_radius(float radius);

}  // namespace comba::datasets
