#include "datasets/erase.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace comba::datasets {
namespace {

constexpr double kLeastArea = 0.02, kMostArea = 1.0 / 3.0;  // of the image's
constexpr double kLeastAspect = 0.3;  // height / width; the largest is its inverse
constexpr int kAttempts = 10;

// Newton's method from the quantile before, which lies below: on the concave half it never overshoots.
std::array<float, 4096> make_normal_table() {
  std::array<float, 4096> table{};
  constexpr size_t kHalf = table.size() / 2;
  double x = 0;
  for (size_t i = 0; i < kHalf; ++i) {
    const double share = (static_cast<double>(i) + 0.5) / table.size();  // beyond one half
    for (int step = 0; step < 12; ++step) {
      const double density = std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
      x += (share - 0.5 * std::erf(x / std::numbers::sqrt2)) / density;
    }
    table[kHalf + i] = static_cast<float>(x);
    table[kHalf - 1 - i] = -static_cast<float>(x);
  }
  return table;
}

bool draw_box(double area, int side, RandomStream& random, ImageBox& box) {
  const double most = std::log(1.0 / kLeastAspect);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const double target = area * random.uniform(kLeastArea, kMostArea);
    const double aspect = std::exp(random.uniform(-most, most));
    const int height = static_cast<int>(std::nearbyint(std::sqrt(target * aspect)));
    const int width = static_cast<int>(std::nearbyint(std::sqrt(target / aspect)));
    if (height < side && width < side) {
      const auto y = static_cast<int>(random.below(side - height + 1));
      const auto x = static_cast<int>(random.below(side - width + 1));
      box = {y, x, height, width};
      return true;
    }
  }
  return false;
}

}  // namespace

void declare(ConfigTable& table, EraseOptions& o) {
  table.add("data.erase", &o.probability,
            "probability of random erasing in training, after normalisation and before mixing",
            {0, 1});
  table.add_choice("data.erase_mode", &o.mode, {"pixel", "colour", "const"},
                   "what fills an erased box: noise, one random colour or the mean");
  table.add("data.erase_count", &o.count, "most boxes in an image; they share the area", {1, 100});
}

std::vector<ImageBox> draw_erasing(const EraseOptions& options, int side, const SampleKey& key) {
  RandomStream random = key.draws(RandomPurpose::erase);
  if (random.uniform() >= options.probability) {
    return {};
  }
  const int64_t count = 1 + random.below(options.count);
  const double area = static_cast<double>(side) * side / static_cast<double>(count);
  std::vector<ImageBox> boxes;
  for (int64_t i = 0; i < count; ++i) {
    ImageBox box;
    if (draw_box(area, side, random, box) && box.height > 0 && box.width > 0) {
      boxes.push_back(box);
    }
  }
  return boxes;
}

const std::array<float, 4096>& normal_table() {
  static const std::array<float, 4096> table = make_normal_table();
  return table;
}

float* fill_erased(const std::string& mode, const ImageBox& box, int number, int side, int channels,
                   const SampleKey& key, float* out) {
  const std::array<float, 4096>& table = normal_table();
  RandomStream noise = key.draws(RandomPurpose::erase_noise);
  const auto next = [&] { return table[noise.next() >> 20]; };
  const int64_t area = int64_t{box.height} * box.width;
  if (mode == "const") {
    return std::fill_n(out, area * channels, 0.F);
  }
  for (int c = 0; c < channels; ++c) {
    if (mode == "colour") {
      noise.seek(static_cast<uint64_t>(number) * channels + c);
      out = std::fill_n(out, area, next());
      continue;
    }
    for (int y = box.y; y < box.y + box.height; ++y) {
      noise.seek((static_cast<uint64_t>(c) * side + y) * side + box.x);
      out = std::generate_n(out, box.width, next);
    }
  }
  return out;
}

}  // namespace comba::datasets
