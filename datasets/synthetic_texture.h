// Surfaces for made-up video: noise, overlapping leaves (whose statistics are near those of photographs: edges at every
// scale, in every contrast), house fronts, stripes and spots, and pieces of photographs where there are some.
#pragma once

#include "vision/base/random.h"

#include <vector>

#include <opencv2/core.hpp>

namespace comba::datasets {

// Photographs that surfaces are cut from; RGB. Empty: everything is drawn.
using Photographs = std::vector<cv::Mat3b>;

// Colours that belong together: a base, and how far others lie from it, more in brightness than in hue.
class Palette {
 public:
  explicit Palette(RandomStream& random);
  // Near to another's: `distance` is 0 for the same, 1 for something of its own.
  Palette(RandomStream& random, const Palette& other, double distance);
  cv::Vec3f colour(RandomStream& random) const;

 private:
  cv::Vec3f base_;
  double brightness_, hue_;  // deviations, of 255
};

// Smooth noise around 0.5: random grids of growing fineness, each half as strong.
cv::Mat1f smooth_noise(RandomStream& random, cv::Size size, int coarsest, int octaves);

// A surface of any kind. `grain` is the size of its largest features as a share of the picture's.
cv::Mat3b draw_surface(RandomStream& random, cv::Size size, const Palette& palette, double grain,
                       const Photographs& photographs);

}  // namespace comba::datasets
