// A box as the benchmarks write it: left, top, width, height in pixels, any of them fractional.
#pragma once

#include <cmath>

namespace comba::tracking {

struct Box {
  double x = 0, y = 0, w = 0, h = 0;

  bool has_nan() const { return std::isnan(x) || std::isnan(y) || std::isnan(w) || std::isnan(h); }
  // Both sides positive; false for NaN.
  bool has_area() const { return w > 0 && h > 0; }
  bool operator==(const Box&) const = default;
};

}  // namespace comba::tracking
