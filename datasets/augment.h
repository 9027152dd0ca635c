// Random changes of a training image's colours and shape: RandAugment and 3-Augment as timm defines them (1.0.31,
// data/auto_augment.py; deit 7e160fe, augment.py), colour jitter as torchvision does.
//
// What happens to an image is drawn first and done afterwards, so that whoever does it does the same.
#pragma once

#include "datasets/image.h"
#include "datasets/pixel_kernels.h"
#include "vision/base/random.h"

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace comba::datasets {

enum class Augmentation : uint8_t {
  auto_contrast,
  equalize,
  invert,
  rotate,
  posterize,
  solarize,
  solarize_add,
  colour,
  contrast,
  brightness,
  sharpness,
  shear_x,
  shear_y,
  translate_x,
  translate_y,
  grayscale,
  gaussian_blur,
};
constexpr int kRandAugmentations = 15;  // the first ones

std::string_view name_of(Augmentation kind);

// `argument`: degrees counter-clockwise, bits kept, threshold, amount, blend factor, shear, share of the side, blur
// radius in px; unused by the others.
struct AugmentStep {
  Augmentation kind;
  double argument = 0;
};

// RandAugment's argument for a magnitude of 0..10. `increasing`: stronger with the magnitude, timm's "inc1".
double augment_argument(Augmentation kind, double magnitude, bool negative, bool increasing);

// "rand-m9-mstd0.5-inc1" and the like, "3a" or "".
struct AugmentPolicy {
  enum class Kind { none, random, three } kind = Kind::none;
  int operations = 2;  // drawn with replacement, each done with `probability`
  double magnitude = 10, deviation = 0, probability = 0.5;
  bool increasing = false;
  double jitter = 0;  // of brightness, contrast and colour, in random order; ignored by RandAugment

  // Throws UsageError naming the part that is not understood.
  static AugmentPolicy parse(std::string_view text, double jitter);
};

std::vector<AugmentStep> draw_augmentation(const AugmentPolicy& policy, RandomStream& random);

// What comes in from outside when an image is rotated, sheared or shifted: ImageNet's mean colour.
constexpr std::array<uint8_t, 3> kFillColour = {124, 116, 104};

// Rotation about the centre, shear or shift of an image of height x width px.
AffineMap affine_map(const AugmentStep& step, int height, int width);

// RGB.
void augment(Image& image, const AugmentStep& step);

}  // namespace comba::datasets
