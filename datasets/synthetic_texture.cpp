#include "datasets/synthetic_texture.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <opencv2/imgproc.hpp>

namespace comba::datasets {
namespace {

constexpr double kTurn = 2 * std::numbers::pi;
constexpr double kPhotographShare = 0.75;  // of surfaces, where there are photographs

cv::Scalar scalar(const cv::Vec3f& colour) { return {colour[0], colour[1], colour[2]}; }

std::vector<cv::Point> turned(const std::vector<cv::Point2d>& points, cv::Point2d centre,
                              double angle) {
  std::vector<cv::Point> out;
  const double c = std::cos(angle), s = std::sin(angle);
  for (const cv::Point2d& p : points) {
    out.emplace_back(cvRound(centre.x + c * p.x - s * p.y), cvRound(centre.y + s * p.x + c * p.y));
  }
  return out;
}

// An ellipse, a rectangle, a triangle or a bar of about the radius r.
std::vector<cv::Point2d> leaf(RandomStream& random, double r) {
  const double aspect = random.uniform(0.4, 1.0);
  std::vector<cv::Point2d> points;
  switch (random.below(4)) {
    case 0:
      for (int i = 0; i < 20; ++i) {
        points.emplace_back(r * std::cos(kTurn * i / 20), aspect * r * std::sin(kTurn * i / 20));
      }
      return points;
    case 1:
      return {{-r, -aspect * r}, {r, -aspect * r}, {r, aspect * r}, {-r, aspect * r}};
    case 2:
      return {{-r, -aspect * r}, {r, random.uniform(-r, r)}, {random.uniform(-r, r), r}};
    default:
      return {{-3 * r, -0.12 * r}, {3 * r, -0.12 * r}, {3 * r, 0.12 * r}, {-3 * r, 0.12 * r}};
  }
}

// Leaves over leaves, as many of every size, so that a picture of any scale looks alike.
void draw_leaves(RandomStream& random, cv::Mat3b& image, const Palette& palette, double largest,
                 bool upright) {
  image.setTo(scalar(palette.colour(random)));
  constexpr int kLeaves = 260;
  const double smallest = 0.04 * largest;
  for (int i = 0; i < kLeaves; ++i) {
    // From large to small, or the large ones would cover all others.
    const double r = largest * std::pow(smallest / largest, (i + random.uniform()) / kLeaves);
    const cv::Point2d centre(random.uniform(0, image.cols), random.uniform(0, image.rows));
    const double angle = upright ? std::numbers::pi / 2 * static_cast<double>(random.below(2))
                                 : random.uniform(0, kTurn);
    cv::fillPoly(image, std::vector<std::vector<cv::Point>>{turned(leaf(random, r), centre, angle)},
                 scalar(palette.colour(random)), cv::LINE_AA);
  }
}

// Rows of windows, bricks or bars: the same thing again and again.
void draw_rows(RandomStream& random, cv::Mat3b& image, const Palette& palette, double largest) {
  image.setTo(scalar(palette.colour(random)));
  const double wide = largest * random.uniform(0.3, 1.0), high = largest * random.uniform(0.2, 1.2);
  const double gap = random.uniform(0.1, 0.5), shift = random.uniform() < 0.4 ? 0.5 : 0.0;
  const cv::Vec3f colours[] = {palette.colour(random), palette.colour(random),
                               palette.colour(random)};
  int row = 0;
  for (double y = 0; y < image.rows; y += high, ++row) {
    for (double x = -shift * (row % 2) * wide; x < image.cols; x += wide) {
      const cv::Vec3f& colour = colours[random.below(8) == 0 ? 2 : random.below(2)];
      cv::rectangle(image, cv::Point2d(x + gap * wide / 2, y + gap * high / 2),
                    cv::Point2d(x + (1 - gap / 2) * wide, y + (1 - gap / 2) * high), scalar(colour),
                    cv::FILLED, cv::LINE_AA);
    }
  }
}

// Two colours mixed by noise, with stripes or spots of a third.
void draw_pattern(RandomStream& random, cv::Mat3b& image, const Palette& palette, double largest) {
  const cv::Vec3f a = palette.colour(random), b = palette.colour(random),
                  c = palette.colour(random);
  const int coarsest = std::max(2, cvRound(image.cols / (2 * largest)));
  const cv::Mat1f mix = smooth_noise(random, image.size(), coarsest, 4),
                  spots = smooth_noise(random, image.size(), 2 * coarsest, 2);
  const double angle = random.uniform(0, kTurn), period = random.uniform(0.3, 1.0) * largest;
  const auto dx = static_cast<float>(kTurn * std::cos(angle) / period),
             dy = static_cast<float>(kTurn * std::sin(angle) / period);
  const int64_t kind = random.below(3);  // stripes, spots, neither
  for (int y = 0; y < image.rows; ++y) {
    for (int x = 0; x < image.cols; ++x) {
      const bool third =
          kind == 0   ? std::sin(dx * static_cast<float>(x) + dy * static_cast<float>(y)) > 0.4F
          : kind == 1 ? spots(y, x) > 0.42F
                      : false;
      const float m = std::clamp(mix(y, x) * 1.6F - 0.3F, 0.F, 1.F);
      image(y, x) = (third ? 0.35F : 1.F) * (m * a + (1 - m) * b) + (third ? 0.65F : 0.F) * c;
    }
  }
}

// Light that falls unevenly, and a roughness of the material.
void shade(RandomStream& random, cv::Mat3b& image) {
  const auto light = static_cast<float>(random.uniform(0.0, 0.7)),
             rough = static_cast<float>(random.uniform(0.0, 0.25));
  const cv::Mat1f wide = smooth_noise(random, image.size(), 2, 2),
                  fine = smooth_noise(random, image.size(), std::max(8, image.cols / 12), 3);
  for (int y = 0; y < image.rows; ++y) {
    for (int x = 0; x < image.cols; ++x) {
      const float gain = (1 + light * (wide(y, x) - 0.4F)) * (1 + rough * (fine(y, x) - 0.45F));
      cv::Vec3b& pixel = image(y, x);
      for (int c = 0; c < 3; ++c) {
        pixel[c] = cv::saturate_cast<uint8_t>(gain * pixel[c]);
      }
    }
  }
}

// A random piece of a photograph, at most as fine as the photograph, mirrored or not, its brightness and tint changed.
cv::Mat3b cut_photograph(RandomStream& random, cv::Size size, double grain,
                         const Photographs& photographs) {
  const cv::Mat3b& photograph =
      photographs[static_cast<size_t>(random.below(static_cast<int64_t>(photographs.size())))];
  const double fit = std::min(static_cast<double>(photograph.cols) / size.width,
                              static_cast<double>(photograph.rows) / size.height);
  // A picture of fine grain shows much of the photograph.
  const double share = std::clamp(random.uniform(0.35, 1.0) * 0.3 / grain, 0.2, 1.0);
  const cv::Size piece(std::max(1, static_cast<int>(share * fit * size.width)),
                       std::max(1, static_cast<int>(share * fit * size.height)));
  const cv::Point corner(static_cast<int>(random.below(photograph.cols - piece.width + 1)),
                         static_cast<int>(random.below(photograph.rows - piece.height + 1)));
  cv::Mat3b out;
  cv::resize(photograph(cv::Rect(corner, piece)), out, size, 0, 0,
             piece.width > size.width ? cv::INTER_AREA : cv::INTER_LINEAR);
  if (random.uniform() < 0.5) {
    cv::flip(out, out, 1);
  }
  const double gain = random.uniform(0.7, 1.25), offset = random.uniform(-20, 20);
  const cv::Scalar tint(random.uniform(0.85, 1.15), random.uniform(0.85, 1.15),
                        random.uniform(0.85, 1.15));
  cv::multiply(out, tint * gain, out);
  cv::add(out, cv::Scalar::all(offset), out);
  return out;
}

}  // namespace

Palette::Palette(RandomStream& random)
    : base_(static_cast<float>(random.uniform(30, 225)), 0, 0),
      brightness_(random.uniform(12, 65)),
      hue_(random.uniform(3, 32)) {
  const float grey = base_[0];
  for (int c = 0; c < 3; ++c) {
    base_[c] = grey + static_cast<float>(hue_ * random.normal());
  }
}

Palette::Palette(RandomStream& random, const Palette& other, double distance) : Palette(random) {
  const auto d = static_cast<float>(distance);
  base_ = d * base_ + (1 - d) * other.base_;
  brightness_ = distance * brightness_ + (1 - distance) * other.brightness_;
  hue_ = distance * hue_ + (1 - distance) * other.hue_;
}

cv::Vec3f Palette::colour(RandomStream& random) const {
  const double grey = brightness_ * random.normal();
  cv::Vec3f colour;
  for (int c = 0; c < 3; ++c) {
    colour[c] =
        std::clamp(base_[c] + static_cast<float>(grey + hue_ * random.normal()), 4.F, 250.F);
  }
  return colour;
}

cv::Mat1f smooth_noise(RandomStream& random, cv::Size size, int coarsest, int octaves) {
  cv::Mat1f sum(size, 0.F);
  float strength = 0.5F;
  for (int octave = 0; octave < octaves; ++octave, strength *= 0.5F) {
    cv::Mat1f grid(std::max(2, coarsest << octave), std::max(2, coarsest << octave)), fine;
    for (float& value : grid) {
      value = static_cast<float>(random.uniform());
    }
    cv::resize(grid, fine, size, 0, 0, cv::INTER_LINEAR);
    sum += strength * fine;
  }
  return sum;
}

cv::Mat3b draw_surface(RandomStream& random, cv::Size size, const Palette& palette, double grain,
                       const Photographs& photographs) {
  if (!photographs.empty() && random.uniform() < kPhotographShare) {
    return cut_photograph(random, size, grain, photographs);
  }
  cv::Mat3b image(size);
  const double largest = grain * size.width;
  const double kind = random.uniform();
  if (kind < 0.55) {
    draw_leaves(random, image, palette, largest, random.uniform() < 0.35);
  } else if (kind < 0.7) {
    draw_rows(random, image, palette, largest);
  } else {
    draw_pattern(random, image, palette, largest);
  }
  shade(random, image);
  return image;
}

}  // namespace comba::datasets
