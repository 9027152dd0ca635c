#include "tools/made_up_images.h"

#include "datasets/decode.h"
#include "vision/base/random.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <fmt/format.h>

namespace comba::tools {
namespace {

class MadeUpImages final : public datasets::ImageSource {
 public:
  explicit MadeUpImages(int64_t views) : views_(views) {
    for (int64_t i = 0; i < kCount; ++i) {
      files_.push_back(datasets::encode_jpeg(draw(i), 93));
    }
  }
  int64_t size() const override { return kCount * views_; }
  datasets::EncodedSample read(int64_t index) const override {
    const std::string& file = files_[static_cast<size_t>(index % kCount)];
    return {{reinterpret_cast<const uint8_t*>(file.data()), file.size()}, {}, 0, name(index)};
  }
  int64_t label(int64_t) const override { return 0; }
  std::string name(int64_t index) const override { return fmt::format("made up {}", index); }
  std::string original(int64_t index) const override { return name(index); }
  const std::vector<std::string>& classes() const override { return classes_; }
  std::string fingerprint() const override { return "made up"; }

 private:
  static constexpr int64_t kCount = 64;
  // Waves under noise whose strength gives the usual bytes a pixel.
  static datasets::Image draw(int64_t index) {
    datasets::Image image{375, 500, 3, {}};
    RandomStream random(7, 0, static_cast<uint64_t>(index), RandomPurpose::synthesise);
    const double fx = random.uniform(0.01, 0.06), fy = random.uniform(0.01, 0.06);
    for (int y = 0; y < image.height; ++y) {
      for (int x = 0; x < image.width; ++x) {
        const double wave =
            128 + 60 * std::sin(fx * x + 2 * std::sin(fy * y)) + 24 * std::sin(0.4 * x + 0.3 * y);
        const auto grain = static_cast<double>(random.next() >> 27);
        for (int c = 0; c < 3; ++c) {
          image.pixels.push_back(static_cast<uint8_t>(
              std::clamp(wave + grain - 16 + 20 * c * std::sin(fy * x), 0.0, 255.0)));
        }
      }
    }
    return image;
  }
  int64_t views_;
  std::vector<std::string> files_;
  std::vector<std::string> classes_{"made up"};
};

}  // namespace

std::shared_ptr<datasets::ImageSource> made_up_images(int64_t views) {
  return std::make_shared<MadeUpImages>(views);
}

}  // namespace comba::tools
