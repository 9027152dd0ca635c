#include "datasets/synthetic_scene.h"

#include "datasets/synthetic_sprite.h"
#include "datasets/synthetic_texture.h"
#include "vision/base/error.h"
#include "vision/base/random.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>

#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

namespace comba::datasets {
namespace {

constexpr int kSubFrames = 5;     // exposures of a blurred frame
constexpr int kNoiseMargin = 64;  // px by which the sheet of noise is larger than a frame
const char* const kClasses[] = {"blob", "star", "block", "shard", "figure"};

Shape random_shape(RandomStream& random) { return static_cast<Shape>(random.below(kShapes)); }

Photographs borrowed(const std::shared_ptr<const std::vector<Image>>& images) {
  Photographs photographs;
  for (size_t n = 0; images && n < images->size(); ++n) {
    const Image& image = (*images)[n];
    photographs.emplace_back(image.height, image.width,
                             reinterpret_cast<cv::Vec3b*>(const_cast<uint8_t*>(image.row(0))));
  }
  return photographs;
}

}  // namespace

struct SyntheticScene::Parts {
  SceneOptions options;
  Photographs photographs;
  cv::Size size;
  Palette scenery_palette, target_palette;
  cv::Mat3b background;
  Camera camera;
  Wave light;
  bool scenic;  // the target is a place of the background itself
  Shape shape;
  Sprite target;
  std::vector<Sprite> behind, front;
  double blur;  // from which share of a wave on frames are blurred
  Wave shutter;
  double softness, coarseness;  // px of blur of every frame; share of the pixels that it truly has
  cv::Mat1s noise;              // of the sensor, larger than a frame
  double start = 0;

  Parts(const SceneOptions& o, RandomStream random)
      : options(o),
        photographs(borrowed(o.photographs)),
        size(o.width, o.height),
        scenery_palette(random),
        target_palette(random, scenery_palette, random.uniform() < 0.3 ? 0.3 : 1.0),
        background(draw_surface(random, {o.width * 3 / 2, o.height * 3 / 2}, scenery_palette,
                                random.uniform(0.08, 0.4), photographs)),
        camera(random, size),
        light(random, random.uniform(0.0, 0.25), 0.01, 0.05),
        scenic(random.uniform() < 0.2),
        shape(scenic && random.uniform() < 0.5 ? Shape::block : random_shape(random)),
        target(random, shape, target_palette, photographs, target_options(random)),
        blur(random.uniform(0.2, 1.2)),
        shutter(random, 1.0, 0.05, 0.2),
        softness(random.uniform() < 0.4 ? random.uniform(0.4, 1.4) : 0.0),
        coarseness(random.uniform() < 0.2 ? random.uniform(0.35, 0.8) : 1.0) {
    for (int64_t i = random.below(5); i > 0; --i) {
      add_other(random);
    }
    for (int64_t i = random.below(3); i > 0; --i) {
      const Palette palette(random);
      front.emplace_back(random, random_shape(random), palette, photographs,
                         SpriteOptions{.image = size,
                                       .least = 0.1,
                                       .most = 0.22,
                                       .reach = 0.35,
                                       .attached = random.uniform() < 0.5});
    }
    if (scenic) {  // nothing is behind the background
      std::move(behind.begin(), behind.end(), std::back_inserter(front));
      behind.clear();
    }
    make_noise(random);
    while (!find_start() && !front.empty()) {
      front.pop_back();
    }
  }

  SpriteOptions target_options(RandomStream& random) const {
    const double kind = random.uniform();
    const bool attached = scenic || random.uniform() < 0.45;
    return {.image = size,
            .least = scenic ? 0.1 : 0.05,  // a small place looks like any other
            .most = scenic ? 0.25 : 0.18,
            .reach = kind < 0.15 ? 0.7
                     : attached  ? random.uniform(0.02, 0.25)
                                 : 0.3,
            .attached = attached,
            .rigid = scenic,
            .part = !scenic && random.uniform() < 0.4};
  }

  // Beside the target or behind it; some look like it.
  void add_other(RandomStream& random) {
    const double likeness = random.uniform();
    const Palette palette =
        likeness < 0.4 ? Palette(random, target_palette, 0.25) : Palette(random);
    behind.emplace_back(random, likeness < 0.4 ? shape : random_shape(random), palette, photographs,
                        SpriteOptions{.image = size,
                                      .least = 0.05,
                                      .most = 0.2,
                                      .reach = 0.4,
                                      .attached = random.uniform() < 0.6});
    if (likeness < 0.12) {
      behind.back().take_surface_of(target);
    }
  }

  void make_noise(RandomStream& random) {
    noise.create(size.height + kNoiseMargin, size.width + kNoiseMargin);
    const double strength = random.uniform() < 0.6 ? random.uniform(1, 8) : 0;
    cv::RNG fast((static_cast<uint64_t>(random.next()) << 32) | random.next());
    fast.fill(noise, cv::RNG::NORMAL, 0, std::max(strength, 0.01));
  }

  // A video begins with a target that is seen.
  bool find_start() {
    for (start = 0; start < 4000; start += 5) {
      const cv::Rect2d box = target.box(camera, start);
      const cv::Rect2d image(0, 0, size.width, size.height);
      if ((box & image).area() < 0.95 * box.area()) {
        continue;
      }
      const auto [inside, visible] = shares(start);
      if (inside > 0.98 && visible > 0.8) {
        return true;
      }
    }
    return false;
  }

  cv::Mat3b scenery(double t) const {
    cv::Matx23d view = camera.view(t);
    // The background's picture is larger than the image, its middle is the scene's.
    const double left = (background.cols - size.width) / 2.0,
                 top = (background.rows - size.height) / 2.0;
    view(0, 2) -= view(0, 0) * left + view(0, 1) * top;
    view(1, 2) -= view(1, 0) * left + view(1, 1) * top;
    cv::Mat3b image;
    cv::warpAffine(background, image, view, size, cv::INTER_LINEAR, cv::BORDER_REFLECT_101);
    return image;
  }
  cv::Mat3b exposure(double t) const {
    cv::Mat3b image = scenery(t);
    for (const Sprite& sprite : behind) {
      sprite.paste(camera, t, image);
    }
    if (!scenic) {
      target.paste(camera, t, image);
    }
    for (const Sprite& sprite : front) {
      sprite.paste(camera, t, image);
    }
    return image;
  }
  cv::Mat picture(double t) const {
    if (shutter.at(t) <= blur) {
      cv::Mat out;
      exposure(t).convertTo(out, CV_8UC3, 1 + light.at(t));
      return out;
    }
    cv::Mat sum(size, CV_32FC3, cv::Scalar::all(0));
    for (int i = 0; i < kSubFrames; ++i) {
      cv::accumulate(exposure(t + (i - (kSubFrames - 1) / 2.0) * 0.8 / kSubFrames), sum);
    }
    cv::Mat out;
    sum.convertTo(out, CV_8UC3, (1 + light.at(t)) / kSubFrames);
    return out;
  }
  // What lens and sensor make of it.
  cv::Mat photographed(double t, RandomStream random) const {
    cv::Mat image = picture(t);
    if (softness > 0) {
      cv::GaussianBlur(image, image, {}, softness);
    }
    if (coarseness < 1) {
      cv::Mat small;
      cv::resize(image, small, {}, coarseness, coarseness, cv::INTER_AREA);
      cv::resize(small, image, size, 0, 0, cv::INTER_LINEAR);
    }
    const int left = static_cast<int>(random.below(kNoiseMargin)),
              top = static_cast<int>(random.below(kNoiseMargin));
    for (int y = 0; y < size.height; ++y) {
      cv::Vec3b* const row = image.ptr<cv::Vec3b>(y);
      const int16_t* const grain = noise[y + top] + left;
      for (int x = 0; x < size.width; ++x) {
        for (int c = 0; c < 3; ++c) {
          row[x][c] = cv::saturate_cast<uint8_t>(row[x][c] + grain[x]);
        }
      }
    }
    return image;
  }
  // Of the target's area: what is in the image, and what of it nothing covers.
  std::pair<double, double> shares(double t) const {
    const cv::Rect area = covering(target.box(camera, t));
    cv::Mat1b whole;
    target.render_target(camera, t, area, whole);
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
      const cv::Rect over = covering(sprite.extent(camera, t)) & area;
      if (!over.empty()) {
        cv::Mat3b colours;
        cv::Mat1b opacity;
        sprite.render(camera, t, over, colours, opacity);
        cv::Mat1b rest = seen(over - area.tl());
        rest &= opacity <= 127;
      }
    }
    return {inside, cv::countNonZero(seen) / all};
  }
};

SyntheticScene::SyntheticScene(const SceneOptions& options) {
  COMBA_CHECK(
      options.width >= 64 && options.height >= 64 && options.width <= 4096 &&
          options.height <= 4096 && options.length >= 1 && options.step >= 1,
      "making a scene: expected 64 to 4096 px a side and a frame or more, got {} x {}, {} frames",
      options.width, options.height, options.length);
  for (size_t n = 0; options.photographs && n < options.photographs->size(); ++n) {
    const Image& image = (*options.photographs)[n];
    COMBA_CHECK(image.channels == 3 && image.width > 0 && image.height > 0,
                "making a scene: expected photographs in colour, got {} channels", image.channels);
  }
  parts_ = std::make_unique<Parts>(
      options, RandomStream(options.seed, 0, options.index, RandomPurpose::synthesise));
}
SyntheticScene::~SyntheticScene() = default;

const std::string& SyntheticScene::object_class() const {
  static const std::string names[] = {kClasses[0], kClasses[1], kClasses[2], kClasses[3],
                                      kClasses[4]};
  return names[static_cast<int>(parts_->shape)];
}

SceneFrame SyntheticScene::frame(int number) const {
  const Parts& p = *parts_;
  const double t = p.start + number * p.options.step;
  const cv::Rect2d box = p.target.box(p.camera, t);
  const auto [inside, visible] = p.shares(t);
  const cv::Mat picture =
      p.photographed(t, RandomStream(p.options.seed, static_cast<uint64_t>(number) + 1,
                                     p.options.index, RandomPurpose::synthesise));
  SceneFrame frame{{}, box.x, box.y, box.width, box.height, inside, visible};
  frame.image = {p.options.height, p.options.width, 3, std::vector<uint8_t>(picture.total() * 3)};
  std::memcpy(frame.image.pixels.data(), picture.data, frame.image.pixels.size());
  return frame;
}

}  // namespace comba::datasets
