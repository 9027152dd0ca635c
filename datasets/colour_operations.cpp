#include "datasets/colour_operations.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

namespace comba::datasets {
namespace {

using Table = std::array<uint8_t, 256>;
using Histogram = std::array<int64_t, 256>;

template <typename Function>
Table table_of(const Function& function) {
  Table table;
  for (int i = 0; i < 256; ++i) {
    table[i] = static_cast<uint8_t>(std::clamp(static_cast<int>(function(i)), 0, 255));
  }
  return table;
}
void look_up(Image& image, const Table& table) {
  for (uint8_t& value : image.pixels) {
    value = table[value];
  }
}

std::array<Histogram, 3> histograms(const Image& image) {
  std::array<Histogram, 3> counts{};
  for (size_t i = 0; i < image.pixels.size(); i += 3) {
    for (size_t c = 0; c < 3; ++c) {
      ++counts[c][image.pixels[i + c]];
    }
  }
  return counts;
}
// A table for each channel, from its histogram.
void look_up_channels(Image& image, const std::function<Table(const Histogram&)>& make) {
  Table tables[3];
  const auto counts = histograms(image);
  std::transform(counts.begin(), counts.end(), tables, make);
  for (size_t i = 0; i < image.pixels.size(); i += 3) {
    for (size_t c = 0; c < 3; ++c) {
      image.pixels[i + c] = tables[c][image.pixels[i + c]];
    }
  }
}

int luminance(const uint8_t* rgb) {  // ITU-R 601-2, 16 bits
  return (rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16;
}

// From `plain` towards `value`, and beyond; truncated.
uint8_t blended(int plain, int value, float factor) {
  const float x = static_cast<float>(plain) + factor * static_cast<float>(value - plain);
  return x <= 0.f ? 0 : x >= 255.f ? 255 : static_cast<uint8_t>(x);
}

Table identity() {
  return table_of([](int i) { return i; });
}

Table stretching(const Histogram& counts) {
  const auto present = [](int64_t n) { return n > 0; };
  const auto low = std::find_if(counts.begin(), counts.end(), present) - counts.begin();
  const auto high = 255 - (std::find_if(counts.rbegin(), counts.rend(), present) - counts.rbegin());
  if (high <= low) {
    return identity();
  }
  const double scale = 255.0 / static_cast<double>(high - low);
  const double offset = -static_cast<double>(low) * scale;
  return table_of([&](int i) { return i * scale + offset; });
}

Table equalizing(const Histogram& counts) {
  int64_t total = 0, last = 0;
  for (const int64_t n : counts) {
    total += n;
    last = n > 0 ? n : last;
  }
  const int64_t step = (total - last) / 255;
  if (step == 0) {
    return identity();
  }
  Table table;
  int64_t before = step / 2;
  for (size_t i = 0; i < table.size(); ++i) {
    table[i] = static_cast<uint8_t>(std::min<int64_t>(before / step, 255));
    before += counts[i];
  }
  return table;
}

// 3 x 3 means with five times the centre; the border stays.
Image smoothed(const Image& image) {
  Image out = image;
  const int pitch = image.width * 3;
  for (int y = 1; y + 1 < image.height; ++y) {
    const uint8_t* const row = image.row(y);
    uint8_t* const to = out.row(y);
    for (int i = 3; i + 3 < pitch; ++i) {
      int sum = 4 * row[i];
      for (const int line : {-pitch, 0, pitch}) {
        sum += row[i + line - 3] + row[i + line] + row[i + line + 3];
      }
      to[i] = static_cast<uint8_t>((2 * sum + 13) / 26);
    }
  }
  return out;
}

// One box blur along lines of `count` RGB pixels `step` bytes apart, ends continued; fractional radius.
class BoxBlur {
 public:
  explicit BoxBlur(float radius)
      : radius_(static_cast<int>(radius)),
        weight_(static_cast<uint32_t>((1 << 24) / (radius * 2 + 1))),
        edge_weight_(((1U << 24) - static_cast<uint32_t>(2 * radius_ + 1) * weight_) / 2) {}

  void line(uint8_t* pixels, ptrdiff_t step, int count, std::vector<uint8_t>& copy) const {
    copy.resize(static_cast<size_t>(count) * 3);
    for (int i = 0; i < count; ++i) {
      std::copy_n(pixels + i * step, 3, copy.data() + 3 * i);
    }
    const auto at = [&](int i, int c) -> uint32_t {
      return copy[static_cast<size_t>(std::clamp(i, 0, count - 1)) * 3 + c];
    };
    for (int c = 0; c < 3; ++c) {
      uint32_t sum = 0;
      for (int i = -radius_; i <= radius_; ++i) {
        sum += at(i, c);
      }
      for (int i = 0; i < count; ++i) {
        const uint32_t edges = at(i - radius_ - 1, c) + at(i + radius_ + 1, c);
        pixels[i * step + c] =
            static_cast<uint8_t>((sum * weight_ + edges * edge_weight_ + (1U << 23)) >> 24);
        sum += at(i + radius_ + 1, c) - at(i - radius_, c);
      }
    }
  }

 private:
  int radius_;
  uint32_t weight_, edge_weight_;  // of the pixels within the radius, of the two beside them
};

constexpr int kBlurPasses = 3;

}  // namespace

void invert(Image& image) {
  look_up(image, table_of([](int i) { return 255 - i; }));
}

void solarize(Image& image, int threshold) {
  look_up(image, table_of([&](int i) { return i < threshold ? i : 255 - i; }));
}

void solarize_add(Image& image, int amount) {
  look_up(image, table_of([&](int i) { return i < 128 ? i + amount : i; }));
}

void posterize(Image& image, int bits) {
  look_up(image, table_of([&](int i) { return i & (0xff00 >> bits); }));
}

void auto_contrast(Image& image) { look_up_channels(image, &stretching); }

void equalize(Image& image) { look_up_channels(image, &equalizing); }

void adjust_brightness(Image& image, float factor) {
  look_up(image, table_of([&](int i) { return blended(0, i, factor); }));
}

void adjust_contrast(Image& image, float factor) {
  int64_t sum = 0;
  for (size_t i = 0; i < image.pixels.size(); i += 3) {
    sum += luminance(&image.pixels[i]);
  }
  const size_t pixels = image.pixels.size() / 3;
  const auto mean = static_cast<int>(static_cast<double>(sum) / static_cast<double>(pixels) + 0.5);
  look_up(image, table_of([&](int i) { return blended(mean, i, factor); }));
}

void adjust_colour(Image& image, float factor) {
  for (size_t i = 0; i < image.pixels.size(); i += 3) {
    const int grey = luminance(&image.pixels[i]);
    for (size_t c = 0; c < 3; ++c) {
      image.pixels[i + c] = blended(grey, image.pixels[i + c], factor);
    }
  }
}

void adjust_sharpness(Image& image, float factor) {
  const Image smooth = smoothed(image);
  for (size_t i = 0; i < image.pixels.size(); ++i) {
    image.pixels[i] = blended(smooth.pixels[i], image.pixels[i], factor);
  }
}

void grayscale(Image& image) {
  for (size_t i = 0; i < image.pixels.size(); i += 3) {
    std::fill_n(&image.pixels[i], 3, static_cast<uint8_t>(luminance(&image.pixels[i])));
  }
}

float box_radius(float sigma) {
  // The passes together have the Gaussian's variance (extended box filters, Gwosdek et al. 2011).
  const float variance = sigma * sigma / kBlurPasses;
  const float length = std::sqrt(12.f * variance + 1.f);
  const float whole = std::floor((length - 1.f) / 2.f);
  const float part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) /
                     (6 * (variance - (whole + 1) * (whole + 1)));
  return whole + part;
}

void gaussian_blur(Image& image, float radius) {
  const BoxBlur blur(box_radius(radius));
  std::vector<uint8_t> copy;
  for (int pass = 0; pass < kBlurPasses; ++pass) {
    for (int y = 0; y < image.height; ++y) {
      blur.line(image.row(y), 3, image.width, copy);
    }
  }
  for (int pass = 0; pass < kBlurPasses; ++pass) {
    for (int x = 0; x < image.width; ++x) {
      blur.line(image.pixels.data() + 3 * x, ptrdiff_t{3} * image.width, image.height, copy);
    }
  }
}

}  // namespace comba::datasets
