#include "datasets/augment.h"

#include "datasets/colour_operations.h"
#include "datasets/pixel_kernels.h"
#include "vision/base/error.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <numbers>

namespace comba::datasets {
namespace {

constexpr double kTop = 10.0;  // the highest magnitude

void warp(Image& image, const AffineMap& map) {
  std::vector<uint8_t> spread(image.pixels.size() / 3 * 4);
  for (size_t i = 0; i < image.pixels.size() / 3; ++i) {
    std::copy_n(&image.pixels[3 * i], 3, &spread[4 * i]);
    std::copy(kFillColour.begin(), kFillColour.end(), &image.pixels[3 * i]);
  }
  pixel_kernels().warp(spread.data(), image.height, image.width, map, image.pixels.data());
}

double blend_argument(double share, bool negative, bool increasing) {
  if (!increasing) {
    return share * 1.8 + 0.1;
  }
  return std::max(0.1, 1.0 + (negative ? -0.9 : 0.9) * share);
}

std::vector<AugmentStep> draw_random(const AugmentPolicy& policy, RandomStream& random) {
  std::vector<AugmentStep> steps;
  for (int i = 0; i < policy.operations; ++i) {
    const auto kind = static_cast<Augmentation>(random.below(kRandAugmentations));
    const bool done = random.uniform() < policy.probability;
    const double magnitude =
        std::isinf(policy.deviation)
            ? random.uniform(0.0, policy.magnitude)
            : std::clamp(policy.magnitude + policy.deviation * random.normal(), 0.0, kTop);
    const bool negative = random.uniform() < 0.5;
    if (done) {
      steps.push_back({kind, augment_argument(kind, magnitude, negative, policy.increasing)});
    }
  }
  return steps;
}

AugmentStep draw_one_of_three(RandomStream& random) {
  switch (random.below(3)) {
    case 0:
      return {Augmentation::grayscale};
    case 1:
      return {Augmentation::solarize, 128};
    default:
      return {Augmentation::gaussian_blur, random.uniform(0.1, 2.0)};
  }
}

void draw_jitter(double jitter, RandomStream& random, std::vector<AugmentStep>& steps) {
  std::array<Augmentation, 3> order = {Augmentation::brightness, Augmentation::contrast,
                                       Augmentation::colour};
  for (size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[static_cast<size_t>(random.below(static_cast<int64_t>(i)))]);
  }
  for (const Augmentation kind : order) {
    steps.push_back({kind, random.uniform(std::max(0.0, 1.0 - jitter), 1.0 + jitter)});
  }
}

[[noreturn]] void refuse(std::string_view text, std::string_view part) {
  throw UsageError(fmt::format(
      "configuration: data.augment = \"{}\": \"{}\" is not understood; expected \"\", \"3a\" or "
      "rand-mM[-nN][-pP][-mstdS][-inc1], e.g. \"rand-m9-mstd0.5-inc1\"",
      text, part));
}

// The number behind `key` in a part of a policy, if it has that key.
bool number_after(std::string_view part, std::string_view key, double& value) {
  if (part.substr(0, key.size()) != key) {
    return false;
  }
  const std::string_view digits = part.substr(key.size());
  const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), value,
                                             std::chars_format::fixed);
  return status == std::errc() && end == digits.data() + digits.size() && value >= 0;
}

void read_part(AugmentPolicy& policy, std::string_view text, std::string_view part) {
  double value = 0;
  if (number_after(part, "mstd", value)) {
    policy.deviation = value > 100 ? std::numeric_limits<double>::infinity() : value;
  } else if (number_after(part, "inc", value) && value <= 1) {
    policy.increasing = value != 0;
  } else if (number_after(part, "m", value) && value <= kTop) {
    policy.magnitude = value;
  } else if (number_after(part, "n", value) && value <= 100) {
    policy.operations = static_cast<int>(value);
  } else if (number_after(part, "p", value) && value <= 1) {
    policy.probability = value;
  } else {
    refuse(text, part);
  }
}

}  // namespace

std::string_view name_of(Augmentation kind) {
  static constexpr std::string_view kNames[] = {
      "auto_contrast", "equalize",    "invert",      "rotate",     "posterize",    "solarize",
      "solarize_add",  "color",       "contrast",    "brightness", "sharpness",    "shear_x",
      "shear_y",       "translate_x", "translate_y", "grayscale",  "gaussian_blur"};
  return kNames[static_cast<size_t>(kind)];
}

double augment_argument(Augmentation kind, double magnitude, bool negative, bool increasing) {
  const double share = magnitude / kTop, sign = negative ? -1.0 : 1.0;
  switch (kind) {
    case Augmentation::rotate:
      return sign * 30.0 * share;
    case Augmentation::posterize: {
      const int bits = static_cast<int>(share * 4);
      return increasing ? 4 - bits : bits;
    }
    case Augmentation::solarize: {
      const int threshold = std::min(256, static_cast<int>(share * 256));
      return increasing ? 256 - threshold : threshold;
    }
    case Augmentation::solarize_add:
      return std::min(128, static_cast<int>(share * 110));
    case Augmentation::colour:
    case Augmentation::contrast:
    case Augmentation::brightness:
    case Augmentation::sharpness:
      return blend_argument(share, negative, increasing);
    case Augmentation::shear_x:
    case Augmentation::shear_y:
      return sign * 0.3 * share;
    case Augmentation::translate_x:
    case Augmentation::translate_y:
      return sign * 0.45 * share;
    default:
      return 0;
  }
}

AugmentPolicy AugmentPolicy::parse(std::string_view text, double jitter) {
  AugmentPolicy policy;
  policy.jitter = jitter;
  if (text.empty() || text == "3a") {
    policy.kind = text.empty() ? Kind::none : Kind::three;
    return policy;
  }
  constexpr std::string_view kRandom = "rand";
  if (text.substr(0, kRandom.size()) != kRandom) {
    refuse(text, text);
  }
  policy.kind = Kind::random;
  std::string_view rest = text.substr(kRandom.size());
  while (!rest.empty()) {
    if (rest.front() != '-') {
      refuse(text, rest);
    }
    rest.remove_prefix(1);
    const std::string_view part = rest.substr(0, rest.find('-'));
    read_part(policy, text, part);
    rest.remove_prefix(part.size());
  }
  return policy;
}

std::vector<AugmentStep> draw_augmentation(const AugmentPolicy& policy, RandomStream& random) {
  if (policy.kind == AugmentPolicy::Kind::random) {
    return draw_random(policy, random);
  }
  std::vector<AugmentStep> steps;
  if (policy.kind == AugmentPolicy::Kind::three) {
    steps.push_back(draw_one_of_three(random));
  }
  if (policy.jitter > 0) {
    draw_jitter(policy.jitter, random, steps);
  }
  return steps;
}

AffineMap affine_map(const AugmentStep& step, int height, int width) {
  const double by = step.argument;
  switch (step.kind) {
    case Augmentation::shear_x:
      return {1, by, 0, 0, 1, 0};
    case Augmentation::shear_y:
      return {1, 0, 0, by, 1, 0};
    case Augmentation::translate_x:
      return {1, 0, by * width, 0, 1, 0};
    case Augmentation::translate_y:
      return {1, 0, 0, 0, 1, by * height};
    default: {
      const double angle = -by * std::numbers::pi / 180.0;
      const double cosine = std::cos(angle), sine = std::sin(angle);
      const double x = width / 2.0, y = height / 2.0;
      return {cosine, sine, x - cosine * x - sine * y, -sine, cosine, y + sine * x - cosine * y};
    }
  }
}

void augment(Image& image, const AugmentStep& step) {
  const auto factor = static_cast<float>(step.argument);
  const auto number = static_cast<int>(step.argument);
  switch (step.kind) {
    case Augmentation::auto_contrast:
      return auto_contrast(image);
    case Augmentation::equalize:
      return equalize(image);
    case Augmentation::invert:
      return invert(image);
    case Augmentation::posterize:
      return posterize(image, std::min(number, 8));
    case Augmentation::solarize:
      return solarize(image, number);
    case Augmentation::solarize_add:
      return solarize_add(image, number);
    case Augmentation::colour:
      return adjust_colour(image, factor);
    case Augmentation::contrast:
      return adjust_contrast(image, factor);
    case Augmentation::brightness:
      return adjust_brightness(image, factor);
    case Augmentation::sharpness:
      return adjust_sharpness(image, factor);
    case Augmentation::grayscale:
      return grayscale(image);
    case Augmentation::gaussian_blur:
      return gaussian_blur(image, factor);
    case Augmentation::rotate:
    case Augmentation::shear_x:
    case Augmentation::shear_y:
    case Augmentation::translate_x:
    case Augmentation::translate_y:
      return warp(image, affine_map(step, image.height, image.width));
  }
}

}  // namespace comba::datasets
