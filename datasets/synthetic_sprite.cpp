#include "datasets/synthetic_sprite.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <opencv2/imgproc.hpp>

namespace comba::datasets {
namespace {

constexpr double kTurn = 2 * std::numbers::pi;
constexpr int kSide = 192, kLevels = 4;  // px of the finest picture; pictures

using Outline = std::vector<cv::Point2d>;

// A closed outline within the unit circle.
Outline single_outline(RandomStream& random, Shape shape) {
  Outline points;
  const int corners = static_cast<int>(random.below(4)) + 5;
  const double phase = random.uniform(0, kTurn), wave = random.uniform(0.05, 0.25);
  for (int i = 0; i < 96; ++i) {
    const double angle = kTurn * i / 96;
    double radius = 1;
    switch (shape) {
      case Shape::star:
        radius = 0.55 + 0.45 * std::abs(std::cos(corners * angle / 2 + phase));
        break;
      case Shape::block:
        radius = 0.7 / std::max(std::abs(std::cos(angle)), std::abs(std::sin(angle)));
        break;
      case Shape::shard:
        radius = 0.5 + 0.5 * std::abs(std::remainder(angle * 1.5 + phase, 2.0));
        break;
      default:  // blob
        radius = 1 - wave + wave * std::sin(3 * angle + phase) * std::cos(2 * angle - phase);
    }
    radius = std::min(radius, 1.0);
    points.emplace_back(radius * std::cos(angle), radius * std::sin(angle));
  }
  return points;
}

Outline ellipse(double x, double y, double wide, double high) {
  Outline points;
  for (int i = 0; i < 32; ++i) {
    points.emplace_back(x + wide * std::cos(kTurn * i / 32), y + high * std::sin(kTurn * i / 32));
  }
  return points;
}
// `upper` is the width of its upper edge as a share of the lower's.
Outline trapeze(double x, double y, double wide, double high, double upper = 1) {
  return {{x - upper * wide, y - high},
          {x + upper * wide, y - high},
          {x + wide, y + high},
          {x - wide, y + high}};
}

// Head, trunk, arms and legs.
std::vector<Outline> person(RandomStream& random) {
  const double head = random.uniform(0.16, 0.24), slim = random.uniform(0.22, 0.42),
               step = random.uniform(0.02, 0.2);
  return {ellipse(0, -0.95 + head, 0.8 * head, head),
          trapeze(0, -0.15, slim, 0.42, random.uniform(0.8, 1.2)),
          trapeze(-slim - 0.06, -0.15, 0.07, 0.36),
          trapeze(slim + 0.06, -0.15, 0.07, 0.36),
          trapeze(-step - 0.1, 0.62, 0.11, 0.36),
          trapeze(step + 0.1, 0.62, 0.11, 0.36)};
}
// Face, hair, eyes, mouth, shoulders.
std::vector<Outline> bust(RandomStream& random) {
  const double wide = random.uniform(0.36, 0.5), eyes = random.uniform(0.14, 0.2),
               open = random.uniform(0.02, 0.07);
  return {ellipse(0, -0.3, wide, 0.55),     ellipse(0, -0.78, 0.95 * wide, 0.2),
          ellipse(-eyes, -0.4, 0.08, 0.04), ellipse(eyes, -0.4, 0.08, 0.04),
          ellipse(0, -0.02, 0.15, open),    trapeze(0, 0.65, 0.9, 0.35, random.uniform(0.4, 0.8))};
}
// Body, cabin, windows, wheels.
std::vector<Outline> vehicle(RandomStream& random) {
  const double high = random.uniform(0.2, 0.35), roof = random.uniform(0.25, 0.4),
               back = random.uniform(-0.25, 0.1);
  return {trapeze(0, 0.15, 0.95, high, random.uniform(0.85, 1)),
          trapeze(back, 0.15 - high - roof, 0.6, roof, random.uniform(0.5, 0.95)),
          trapeze(back - 0.25, 0.15 - high - roof, 0.2, 0.6 * roof, 0.8),
          trapeze(back + 0.25, 0.15 - high - roof, 0.2, 0.6 * roof, 0.8),
          ellipse(-0.55, 0.15 + high, 0.2, 0.2),
          ellipse(0.55, 0.15 + high, 0.2, 0.2)};
}

std::vector<Outline> outlines(RandomStream& random, Shape shape) {
  if (shape != Shape::figure) {
    return {single_outline(random, shape)};
  }
  switch (random.below(3)) {
    case 0:
      return person(random);
    case 1:
      return bust(random);
    default:
      return vehicle(random);
  }
}

// What is looked for where it is but a part: a head, a body, or any place within the outline.
Outline part_of(RandomStream& random, Shape shape, const std::vector<Outline>& parts) {
  if (shape == Shape::figure && random.uniform() < 0.6) {
    return parts[0];
  }
  const double size = random.uniform(0.35, 0.6);
  const cv::Point2d centre(random.uniform(-0.25, 0.25), random.uniform(-0.25, 0.25));
  Outline points = single_outline(random, random.uniform() < 0.5 ? Shape::blob : Shape::block);
  for (cv::Point2d& p : points) {
    p = centre + size * p;
  }
  return points;
}

cv::Mat1b mask_of(const std::vector<Outline>& outlines) {
  cv::Mat1b mask(kSide, kSide, uint8_t{0});
  for (const Outline& outline : outlines) {
    std::vector<cv::Point> pixels;
    for (const cv::Point2d& p : outline) {
      pixels.emplace_back(cvRound((p.x + 1) * kSide / 2), cvRound((p.y + 1) * kSide / 2));
    }
    cv::fillPoly(mask, std::vector<std::vector<cv::Point>>{pixels}, cv::Scalar(255), cv::LINE_AA);
  }
  return mask;
}

template <typename Pixel>
std::vector<cv::Mat_<Pixel>> pyramid(const cv::Mat_<Pixel>& finest) {
  std::vector<cv::Mat_<Pixel>> levels{finest};
  while (levels.size() < kLevels) {
    cv::Mat_<Pixel> half;
    cv::resize(levels.back(), half, levels.back().size() / 2, 0, 0, cv::INTER_AREA);
    levels.push_back(half);
  }
  return levels;
}

cv::Point2d transformed(const cv::Matx23d& m, const cv::Point2d& p) {
  return {m(0, 0) * p.x + m(0, 1) * p.y + m(0, 2), m(1, 0) * p.x + m(1, 1) * p.y + m(1, 2)};
}

double log_uniform(RandomStream& random, double low, double high) {
  return low * std::pow(high / low, random.uniform());
}

void blend(cv::Mat3b image, const cv::Mat3b& colours, const cv::Mat1b& opacity) {
  for (int y = 0; y < image.rows; ++y) {
    for (int x = 0; x < image.cols; ++x) {
      const int a = opacity(y, x);
      for (int c = 0; c < 3; ++c) {
        uint8_t& value = image(y, x)[c];
        value = static_cast<uint8_t>((value * (255 - a) + colours(y, x)[c] * a + 127) / 255);
      }
    }
  }
}

}  // namespace

cv::Rect covering(const cv::Rect2d& box) {
  const int left = cvFloor(box.x) - 1, top = cvFloor(box.y) - 1;
  return {left, top, cvCeil(box.x + box.width) + 1 - left, cvCeil(box.y + box.height) + 1 - top};
}

Wave::Wave(RandomStream& random, double amplitude, double slowest, double fastest) {
  for (int i = 0; i < 2; ++i) {
    size_[i] = amplitude * (i == 0 ? 0.7 : 0.3);
    rate_[i] = random.uniform(slowest, fastest) * (i == 0 ? 1 : 2.3);
    phase_[i] = random.uniform(0, kTurn);
  }
}

double Wave::at(double t) const {
  return size_[0] * std::sin(rate_[0] * t + phase_[0]) +
         size_[1] * std::sin(rate_[1] * t + phase_[1]);
}

Camera::Camera(RandomStream& random, cv::Size image)
    : centre_(image.width / 2.0, image.height / 2.0),
      x_(random, random.uniform(0, 0.25) * image.width, 0.005, 0.04),
      y_(random, random.uniform(0, 0.2) * image.height, 0.005, 0.04),
      zoom_(random, random.uniform(0, 0.25), 0.005, 0.03),
      roll_(random, random.uniform(0, 0.12), 0.005, 0.03),
      shake_x_(random, random.uniform(-0.01, 0.012) * image.width, 0.3, 1.5),
      shake_y_(random, random.uniform(-0.01, 0.012) * image.height, 0.3, 1.5) {}

cv::Matx23d Camera::view(double t) const {
  const double zoom = std::exp(zoom_.at(t)), roll = roll_.at(t);
  const double c = zoom * std::cos(roll), s = zoom * std::sin(roll);
  const double x = centre_.x + x_.at(t) + shake_x_.at(t), y = centre_.y + y_.at(t) + shake_y_.at(t);
  return {c, -s, centre_.x - c * x + s * y, s, c, centre_.y - s * x - c * y};
}

Sprite::Sprite(RandomStream& random, Shape shape, const Palette& palette,
               const Photographs& photographs, const SpriteOptions& o)
    : shape_(shape),
      attached_(o.attached),
      parts_(outlines(random, shape)),
      wanted_(o.part ? std::vector<Outline>{part_of(random, shape, parts_)} : parts_),
      centre_(random.uniform(0.3, 0.7) * o.image.width, random.uniform(0.3, 0.7) * o.image.height),
      radius_(log_uniform(random, o.least, o.most) * std::min(o.image.width, o.image.height)),
      aspect_(random.uniform(0.6, 1.6)),
      start_turn_(random.uniform(-0.4, 0.4)),
      bending_(!o.rigid && random.uniform() < 0.4 ? random.uniform(0.03, 0.12) : 0.0),
      x_(random, o.rigid ? 0 : o.reach * o.image.width, 0.02, 0.08),
      y_(random, o.rigid ? 0 : o.reach * o.image.height, 0.02, 0.08),
      grow_(random, o.rigid ? 0 : random.uniform(0.1, 0.5), 0.01, 0.05),
      turn_(random, o.rigid ? 0 : random.uniform(0.1, 0.9), 0.01, 0.06),
      side_(random, o.rigid ? 0 : random.uniform(0.0, 0.25), 0.02, 0.08),
      lean_(random, o.rigid ? 0 : random.uniform(0.0, 0.25), 0.02, 0.08),
      bend_x_(random, kTurn, 0.02, 0.08),
      bend_y_(random, kTurn, 0.02, 0.08),
      light_(random.uniform(0.0, 0.35)),
      light_angle_(random.uniform(0, kTurn)) {
  if (o.part) {
    radius_ *= 2;  // the part is to be as large as other targets
  }
  draw(random, palette, photographs);
}

void Sprite::draw(RandomStream& random, const Palette& palette, const Photographs& photographs) {
  cv::Mat3b picture =
      draw_surface(random, {kSide, kSide}, palette, random.uniform(0.15, 0.5), photographs);
  for (size_t n = 1; n < parts_.size(); ++n) {
    const Palette own(random, palette, random.uniform(0.3, 1));
    const cv::Mat3b surface =
        draw_surface(random, {kSide, kSide}, own, random.uniform(0.2, 0.8), photographs);
    surface.copyTo(picture, mask_of({parts_[n]}));
  }
  surface_ = pyramid(picture);
  mask_ = pyramid(mask_of(parts_));
  wanted_mask_ = pyramid(mask_of(wanted_));
}

cv::Matx23d Sprite::pose(const Camera& camera, double t) const {
  const double angle = start_turn_ + turn_.at(t), size = radius_ * std::exp(grow_.at(t));
  const double ratio = std::sqrt(aspect_) * std::exp(side_.at(t));
  const double wide = size * ratio, high = size / ratio, lean = lean_.at(t);
  const double c = std::cos(angle), s = std::sin(angle);
  const cv::Matx22d turned(wide * c, wide * lean * c - high * s, wide * s,
                           wide * lean * s + high * c);
  const cv::Point2d place(centre_.x + x_.at(t), centre_.y + y_.at(t));
  if (!attached_) {
    return {turned(0, 0), turned(0, 1), place.x, turned(1, 0), turned(1, 1), place.y};
  }
  const cv::Matx23d view = camera.view(t);
  const cv::Matx22d seen = cv::Matx22d(view(0, 0), view(0, 1), view(1, 0), view(1, 1)) * turned;
  const cv::Point2d at = transformed(view, place);
  return {seen(0, 0), seen(0, 1), at.x, seen(1, 0), seen(1, 1), at.y};
}

// The picture's place that is seen at p is p + bend(p).
cv::Point2d Sprite::bend(const cv::Point2d& p, double t) const {
  return {bending_ * std::sin(2.2 * p.y + bend_x_.at(t)),
          bending_ * std::sin(2.2 * p.x + bend_y_.at(t))};
}

cv::Rect2d Sprite::bounds(const std::vector<Outline>& outlines, const cv::Matx23d& pose,
                          double t) const {
  double left = 1e9, top = 1e9, right = -1e9, bottom = -1e9;
  for (const Outline& outline : outlines) {
    for (const cv::Point2d& p : outline) {
      cv::Point2d place = p;
      for (int i = 0; bending_ > 0 && i < 6; ++i) {  // where this place of the picture is seen
        place = p - bend(place, t);
      }
      const cv::Point2d at = transformed(pose, place);
      left = std::min(left, at.x);
      right = std::max(right, at.x);
      top = std::min(top, at.y);
      bottom = std::max(bottom, at.y);
    }
  }
  return {left, top, right - left, bottom - top};
}

cv::Rect2d Sprite::extent(const Camera& camera, double t) const {
  return bounds(parts_, pose(camera, t), t);
}
cv::Rect2d Sprite::box(const Camera& camera, double t) const {
  return bounds(wanted_, pose(camera, t), t);
}

template <typename Pixel>
void Sprite::warp(const std::vector<cv::Mat_<Pixel>>& levels, const cv::Matx23d& pose, double t,
                  const cv::Rect& area, int border, cv::Mat_<Pixel>& out) const {
  // The picture whose pixels are about as large as the image's.
  const double size =
      2 *
      std::sqrt(std::abs(pose(0, 0) * pose(1, 1) - pose(0, 1) * pose(1, 0)));  // px of the image
  const int level =
      std::clamp(static_cast<int>(std::log2(kSide / std::max(size, 1.0))), 0, kLevels - 1);
  const cv::Mat_<Pixel>& picture = levels[static_cast<size_t>(level)];
  const double unit = 2.0 / picture.cols;  // of the square, a pixel of the picture
  if (bending_ == 0) {
    const cv::Matx23d map{
        pose(0, 0) * unit, pose(0, 1) * unit, pose(0, 2) - pose(0, 0) - pose(0, 1) - area.x,
        pose(1, 0) * unit, pose(1, 1) * unit, pose(1, 2) - pose(1, 0) - pose(1, 1) - area.y};
    cv::warpAffine(picture, out, map, area.size(), cv::INTER_LINEAR, border);
    return;
  }
  cv::Matx23d back;
  cv::invertAffineTransform(pose, back);
  cv::Mat2f map(area.size());
  const auto waves = static_cast<float>(bending_);
  const auto phase_x = static_cast<float>(bend_x_.at(t)),
             phase_y = static_cast<float>(bend_y_.at(t));
  for (int y = 0; y < area.height; ++y) {
    for (int x = 0; x < area.width; ++x) {
      const cv::Point2d p = transformed(back, cv::Point2d(x + area.x, y + area.y));
      const auto px = static_cast<float>(p.x), py = static_cast<float>(p.y);
      map(y, x) = {(px + waves * std::sin(2.2F * py + phase_x) + 1) / static_cast<float>(unit),
                   (py + waves * std::sin(2.2F * px + phase_y) + 1) / static_cast<float>(unit)};
    }
  }
  cv::remap(picture, out, map, cv::noArray(), cv::INTER_LINEAR, border);
}

void Sprite::render(const Camera& camera, double t, const cv::Rect& area, cv::Mat3b& colours,
                    cv::Mat1b& opacity) const {
  const cv::Matx23d pose = this->pose(camera, t);
  warp(surface_, pose, t, area, cv::BORDER_REPLICATE, colours);
  warp(mask_, pose, t, area, cv::BORDER_CONSTANT, opacity);
  // Light from one side of the image.
  const double size = std::sqrt(std::abs(pose(0, 0) * pose(1, 1) - pose(0, 1) * pose(1, 0)));
  const auto dx = static_cast<float>(light_ * std::cos(light_angle_) / size),
             dy = static_cast<float>(light_ * std::sin(light_angle_) / size);
  for (int y = 0; y < area.height; ++y) {
    for (int x = 0; x < area.width; ++x) {
      const float gain = 1 + dx * static_cast<float>(x + area.x - pose(0, 2)) +
                         dy * static_cast<float>(y + area.y - pose(1, 2));
      cv::Vec3b& pixel = colours(y, x);
      for (int c = 0; c < 3; ++c) {
        pixel[c] = cv::saturate_cast<uint8_t>(gain * pixel[c]);
      }
    }
  }
}

void Sprite::render_target(const Camera& camera, double t, const cv::Rect& area,
                           cv::Mat1b& opacity) const {
  warp(wanted_mask_, pose(camera, t), t, area, cv::BORDER_CONSTANT, opacity);
}

void Sprite::paste(const Camera& camera, double t, cv::Mat3b& image) const {
  const cv::Rect area = covering(extent(camera, t)) & cv::Rect(0, 0, image.cols, image.rows);
  if (!area.empty()) {
    cv::Mat3b colours;
    cv::Mat1b opacity;
    render(camera, t, area, colours, opacity);
    blend(image(area), colours, opacity);
  }
}

}  // namespace comba::datasets
