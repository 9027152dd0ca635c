// Oracle of boxes whose area is uniform and whose aspect is log-uniform, drawn again where they do not fit: the definition
// laid out on a fine grid instead of drawn.
#pragma once

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace comba::datasets {

// Five standard errors of a binomial count; `slack` is what the expected share itself may be off by.
inline void expect_share(int64_t hits, int64_t draws, double share, double slack = 0) {
  const auto n = static_cast<double>(draws);
  EXPECT_NEAR(static_cast<double>(hits) / n, share, 5 * std::sqrt(share * (1 - share) / n) + slack);
}

class BoxDistribution {
 public:
  // A set of draws bounded by a curve that crosses at most 2 kGrid cells, as our inequalities give, is off by at most:
  static constexpr int kGrid = 1500;
  static constexpr double kSlack = 2.0 / kGrid;

  struct Range {
    double least, most;
  };
  // area: px; aspect: tall over wide, or wide over tall with `wide`. fits(height, width): whether a draw is kept.
  template <typename Fits>
  BoxDistribution(Range area, Range aspect, bool wide, const Fits& fits) {
    for (int i = 0; i < kGrid; ++i) {
      const double a = area.least + (area.most - area.least) * (i + 0.5) / kGrid;
      for (int j = 0; j < kGrid; ++j) {
        const double r = aspect.least * std::pow(aspect.most / aspect.least, (j + 0.5) / kGrid);
        double height = std::nearbyint(std::sqrt(a * r)), width = std::nearbyint(std::sqrt(a / r));
        if (wide) {
          std::swap(height, width);
        }
        if (fits(height, width)) {
          kept_.emplace_back(height, width);
        }
      }
    }
  }
  double kept() const { return static_cast<double>(kept_.size()) / kGrid / kGrid; }
  // Share of the kept draws with test(height, width).
  template <typename Test>
  double share(const Test& test) const {
    int64_t hits = 0;
    for (const auto& [height, width] : kept_) {
      hits += test(height, width);
    }
    return static_cast<double>(hits) / static_cast<double>(kept_.size());
  }

 private:
  std::vector<std::pair<double, double>> kept_;  // height, width, px
};

}  // namespace comba::datasets
