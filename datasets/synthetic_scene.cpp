#include "datasets/synthetic_scene.h"

#include "vision/base/error.h"
#include "vision/base/random.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

namespace comba::datasets {
namespace {

constexpr double kTurn = 2 * std::numbers::pi;
constexpr int kSprite = 192,
              kSubFrames = 5;  // px of a sprite's picture; exposures of a blurred frame
const char* const kClasses[] = {"blob", "star", "block", "shard"};

using Colour = cv::Vec3f;

Colour random_colour(RandomStream& random) {
  return {static_cast<float>(random.uniform(20, 235)), static_cast<float>(random.uniform(20, 235)),
          static_cast<float>(random.uniform(20, 235))};
}

// Smooth noise in [0, 1]: random grids of growing fineness, each half as strong.
cv::Mat1f noise(RandomStream& random, cv::Size size, int coarsest, int octaves) {
  cv::Mat1f sum(size, 0.F);
  float strength = 0.5F;
  for (int octave = 0; octave < octaves; ++octave, strength *= 0.5F) {
    cv::Mat1f grid(std::max(2, coarsest << octave), std::max(2, coarsest << octave)), fine;
    for (float& value : grid) {
      value = static_cast<float>(random.uniform());
    }
    cv::resize(grid, fine, size, 0, 0, cv::INTER_CUBIC);
    sum += strength * fine;
  }
  return sum;
}

// Two colours mixed by noise, with stripes or spots of a third.
cv::Mat3b texture(RandomStream& random, cv::Size size, int coarsest) {
  const Colour a = random_colour(random), b = random_colour(random), c = random_colour(random);
  const cv::Mat1f mix = noise(random, size, coarsest, 4),
                  spots = noise(random, size, 2 * coarsest, 2);
  const double angle = random.uniform(0, kTurn), period = random.uniform(0.06, 0.2) * size.width;
  const bool stripes = random.uniform() < 0.5;
  cv::Mat3b out(size);
  for (int y = 0; y < size.height; ++y) {
    for (int x = 0; x < size.width; ++x) {
      const double wave = std::sin(kTurn * (x * std::cos(angle) + y * std::sin(angle)) / period);
      const bool third = stripes ? wave > 0.4 : spots(y, x) > 0.48F;
      const float m = std::clamp(mix(y, x) * 1.6F - 0.3F, 0.F, 1.F);
      const Colour colour =
          (third ? 0.35F : 1.F) * (m * a + (1 - m) * b) + (third ? 0.65F : 0.F) * c;
      out(y, x) =
          cv::Vec3b(cv::saturate_cast<uint8_t>(colour[0]), cv::saturate_cast<uint8_t>(colour[1]),
                    cv::saturate_cast<uint8_t>(colour[2]));
    }
  }
  return out;
}

// A closed outline within the unit circle.
std::vector<cv::Point2d> outline(RandomStream& random, int kind) {
  std::vector<cv::Point2d> points;
  const int corners = static_cast<int>(random.below(4)) + 5;
  const double phase = random.uniform(0, kTurn), wave = random.uniform(0.1, 0.25);
  for (int i = 0; i < 96; ++i) {
    const double angle = kTurn * i / 96;
    double radius = 1;
    switch (kind) {
      case 0:  // blob
        radius = 1 - wave + wave * std::sin(3 * angle + phase) * std::cos(2 * angle - phase);
        break;
      case 1:  // star
        radius = 0.55 + 0.45 * std::abs(std::cos(corners * angle / 2 + phase));
        break;
      case 2:  // block
        radius = 0.7 / std::max(std::abs(std::cos(angle)), std::abs(std::sin(angle)));
        break;
      default:  // shard
        radius = 0.5 + 0.5 * std::abs(std::remainder(angle * 1.5 + phase, 2.0));
    }
    radius = std::min(radius, 1.0);
    points.emplace_back(radius * std::cos(angle), radius * std::sin(angle));
  }
  return points;
}

// A wave of time, smooth and bounded.
struct Wave {
  double size[2], rate[2], phase[2];

  Wave(RandomStream& random, double amplitude, double slowest, double fastest) {
    for (int i = 0; i < 2; ++i) {
      size[i] = amplitude * (i == 0 ? 0.7 : 0.3);
      rate[i] = random.uniform(slowest, fastest) * (i == 0 ? 1 : 2.3);
      phase[i] = random.uniform(0, kTurn);
    }
  }
  double at(double t) const {
    return size[0] * std::sin(rate[0] * t + phase[0]) + size[1] * std::sin(rate[1] * t + phase[1]);
  }
};

// A textured outline and how it moves; positions in px of the image.
struct Sprite {
  cv::Mat3b colours;  // [kSprite, kSprite], the unit square around the outline
  cv::Mat1b mask;
  std::vector<cv::Point2d> points;
  cv::Point2d centre;
  double radius, aspect;
  Wave x, y, grow, turn;
  double start_turn;

  Sprite(RandomStream& random, const SceneOptions& o, int kind, double least, double most,
         double reach)
      : colours(texture(random, {kSprite, kSprite}, 3)),
        mask(kSprite, kSprite, uint8_t{0}),
        points(outline(random, kind)),
        centre(random.uniform(0.35, 0.65) * o.width, random.uniform(0.35, 0.65) * o.height),
        radius(random.uniform(least, most) * std::min(o.width, o.height)),
        aspect(random.uniform(0.6, 1.6)),
        x(random, reach * o.width, 0.02, 0.08),
        y(random, reach * o.height, 0.02, 0.08),
        grow(random, 0.45, 0.01, 0.05),
        turn(random, 0.9, 0.01, 0.06),
        start_turn(random.uniform(-0.5, 0.5)) {
    std::vector<cv::Point> pixels;
    for (const cv::Point2d& p : points) {
      pixels.emplace_back(cvRound((p.x + 1) * kSprite / 2), cvRound((p.y + 1) * kSprite / 2));
    }
    cv::fillPoly(mask, std::vector<std::vector<cv::Point>>{pixels}, cv::Scalar(255), cv::LINE_AA);
  }

  // From the unit square to the image at time t.
  cv::Matx23d pose(double t) const {
    const double angle = start_turn + turn.at(t), size = radius * std::exp(grow.at(t));
    const double wide = size * std::sqrt(aspect), high = size / std::sqrt(aspect);
    const double c = std::cos(angle), s = std::sin(angle);
    return {wide * c, -high * s, centre.x + x.at(t), wide * s, high * c, centre.y + y.at(t)};
  }
};

cv::Rect2d bounds(const Sprite& sprite, const cv::Matx23d& pose) {
  double left = 1e9, top = 1e9, right = -1e9, bottom = -1e9;
  for (const cv::Point2d& p : sprite.points) {
    const double x = pose(0, 0) * p.x + pose(0, 1) * p.y + pose(0, 2);
    const double y = pose(1, 0) * p.x + pose(1, 1) * p.y + pose(1, 2);
    left = std::min(left, x);
    right = std::max(right, x);
    top = std::min(top, y);
    bottom = std::max(bottom, y);
  }
  return {left, top, right - left, bottom - top};
}

// The sprite's opacity over the image's pixels of `area`, and its colours there.
void render(const Sprite& sprite, const cv::Matx23d& pose, const cv::Rect& area, cv::Mat3b& colours,
            cv::Mat1b& opacity) {
  constexpr double kUnit = 2.0 / kSprite;
  // From the picture's pixels to those of `area`.
  const cv::Matx23d map{
      pose(0, 0) * kUnit, pose(0, 1) * kUnit, pose(0, 2) - pose(0, 0) - pose(0, 1) - area.x,
      pose(1, 0) * kUnit, pose(1, 1) * kUnit, pose(1, 2) - pose(1, 0) - pose(1, 1) - area.y};
  cv::warpAffine(sprite.colours, colours, map, area.size(), cv::INTER_LINEAR, cv::BORDER_REPLICATE);
  cv::warpAffine(sprite.mask, opacity, map, area.size(), cv::INTER_LINEAR, cv::BORDER_CONSTANT, 0);
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

cv::Rect covering(const cv::Rect2d& box) {
  const int left = cvFloor(box.x) - 1, top = cvFloor(box.y) - 1;
  return {left, top, cvCeil(box.x + box.width) + 1 - left, cvCeil(box.y + box.height) + 1 - top};
}

}  // namespace

struct SyntheticScene::Parts {
  SceneOptions options;
  int kind;
  cv::Mat3b background;
  Wave pan_x, pan_y, light;
  Sprite target;
  std::vector<Sprite> behind, front;
  double blur;  // from which share of a wave on frames are blurred
  Wave shutter;
  double start = 0;

  explicit Parts(const SceneOptions& o, RandomStream random)
      : options(o),
        kind(static_cast<int>(random.below(4))),
        background(texture(random, {o.width * 3 / 2, o.height * 3 / 2}, 4)),
        pan_x(random, 0.2 * o.width, 0.005, 0.03),
        pan_y(random, 0.2 * o.height, 0.005, 0.03),
        light(random, 0.2, 0.01, 0.05),
        target(random, o, kind, 0.06, 0.16, random.uniform() < 0.25 ? 0.75 : 0.3),
        blur(random.uniform(0.2, 1.0)),
        shutter(random, 1.0, 0.05, 0.2) {
    for (int64_t i = random.below(4); i > 0; --i) {  // some look like the target
      behind.emplace_back(random, o,
                          random.uniform() < 0.5 ? kind : static_cast<int>(random.below(4)), 0.05,
                          0.15, 0.4);
      if (random.uniform() < 0.5) {
        behind.back().colours = target.colours;
      }
    }
    for (int64_t i = random.below(3); i > 0; --i) {
      front.emplace_back(random, o, 2, 0.1, 0.22, 0.35);
    }
    while (!find_start() && !front.empty()) {
      front.pop_back();
    }
  }

  // A video begins with a target that is seen.
  bool find_start() {
    for (start = 0; start < 4000; start += 5) {
      const cv::Matx23d pose = target.pose(start);
      const auto [inside, visible] = shares(bounds(target, pose), pose, start);
      if (inside > 0.98 && visible > 0.8) {
        return true;
      }
    }
    return false;
  }

  cv::Mat3b scenery(double t) const {
    const double x = background.cols / 6.0 + pan_x.at(t), y = background.rows / 6.0 + pan_y.at(t);
    cv::Mat3b image;
    const cv::Matx23d map{1, 0, -x, 0, 1, -y};
    cv::warpAffine(background, image, map, {options.width, options.height}, cv::INTER_LINEAR,
                   cv::BORDER_REFLECT_101);
    return image;
  }
  void paste(cv::Mat3b& image, const Sprite& sprite, double t) const {
    const cv::Matx23d pose = sprite.pose(t);
    const cv::Rect area = covering(bounds(sprite, pose)) & cv::Rect(0, 0, image.cols, image.rows);
    if (!area.empty()) {
      cv::Mat3b colours;
      cv::Mat1b opacity;
      render(sprite, pose, area, colours, opacity);
      blend(image(area), colours, opacity);
    }
  }
  cv::Mat3b exposure(double t) const {
    cv::Mat3b image = scenery(t);
    for (const Sprite& sprite : behind) {
      paste(image, sprite, t);
    }
    paste(image, target, t);
    for (const Sprite& sprite : front) {
      paste(image, sprite, t);
    }
    return image;
  }
  cv::Mat3b picture(double t) const {
    const int exposures = shutter.at(t) > blur ? kSubFrames : 1;
    cv::Mat sum = cv::Mat::zeros(options.height, options.width, CV_32FC3);
    for (int i = 0; i < exposures; ++i) {
      cv::Mat part;
      exposure(t + (i - (exposures - 1) / 2.0) * 0.8 / kSubFrames).convertTo(part, CV_32FC3);
      sum += part;
    }
    cv::Mat out;
    sum.convertTo(out, CV_8UC3, (1 + light.at(t)) / exposures);
    return out;
  }
  // inside, visible
  std::pair<double, double> shares(const cv::Rect2d& box, const cv::Matx23d& pose, double t) const {
    const cv::Rect area = covering(box);
    cv::Mat3b colours;
    cv::Mat1b whole, over;
    render(target, pose, area, colours, whole);
    const double all = std::max(1, cv::countNonZero(whole > 127));
    cv::Mat1b seen = whole > 127;
    const cv::Rect image(0, 0, options.width, options.height);
    cv::Mat1b within(area.size(), uint8_t{0});
    if (const cv::Rect kept = area & image; !kept.empty()) {
      within(kept - area.tl()) = 255;
    }
    seen &= within;
    const double inside = cv::countNonZero(seen) / all;
    for (const Sprite& sprite : front) {
      render(sprite, sprite.pose(t), area, colours, over);
      seen &= over <= 127;
    }
    return {inside, cv::countNonZero(seen) / all};
  }
};

SyntheticScene::SyntheticScene(const SceneOptions& options) {
  COMBA_CHECK(
      options.width >= 64 && options.height >= 64 && options.width <= 4096 &&
          options.height <= 4096 && options.length >= 1,
      "making a scene: expected 64 to 4096 px a side and a frame or more, got {} x {}, {} frames",
      options.width, options.height, options.length);
  parts_ = std::make_unique<Parts>(
      options, RandomStream(options.seed, 0, options.index, RandomPurpose::synthesise));
}
SyntheticScene::~SyntheticScene() = default;

const std::string& SyntheticScene::object_class() const {
  static const std::string names[] = {kClasses[0], kClasses[1], kClasses[2], kClasses[3]};
  return names[parts_->kind];
}

SceneFrame SyntheticScene::frame(int number) const {
  const Parts& p = *parts_;
  const double t = p.start + number;
  const cv::Matx23d pose = p.target.pose(t);
  const cv::Rect2d box = bounds(p.target, pose);
  const auto [inside, visible] = p.shares(box, pose, t);
  const cv::Mat3b picture = p.picture(t);
  SceneFrame frame{{}, box.x, box.y, box.width, box.height, inside, visible};
  frame.image = {p.options.height, p.options.width, 3, std::vector<uint8_t>(picture.total() * 3)};
  std::memcpy(frame.image.pixels.data(), picture.data, frame.image.pixels.size());
  return frame;
}

}  // namespace comba::datasets
