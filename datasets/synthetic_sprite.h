// Things that move through made-up video: an outline or a figure of several parts with a surface of its own, which drifts,
// turns, grows, is seen from changing sides and bends.
#pragma once

#include "datasets/synthetic_texture.h"

#include <vector>

#include <opencv2/core.hpp>

namespace comba::datasets {

// A wave of time, smooth and bounded by its amplitude.
class Wave {
 public:
  Wave(RandomStream& random, double amplitude, double slowest, double fastest);  // rad a frame
  double at(double t) const;

 private:
  double size_[2], rate_[2], phase_[2];
};

// Whole pixels around a box.
cv::Rect covering(const cv::Rect2d& box);

// What is in front of the camera moves with it; things may keep their place in the scene or in the image.
class Camera {
 public:
  Camera(RandomStream& random, cv::Size image);
  cv::Matx23d view(double t) const;  // from the scene's to the image's pixels

 private:
  cv::Point2d centre_;
  Wave x_, y_, zoom_, roll_, shake_x_, shake_y_;
};

enum class Shape { blob, star, block, shard, figure };
constexpr int kShapes = 5;

struct SpriteOptions {
  cv::Size image;
  double least = 0.05, most = 0.16;  // radius, as a share of the image's shorter side
  double reach = 0.3;                // how far it drifts, as a share of the image
  bool attached = false;             // to the scene, and moves with the camera
  bool rigid = false;                // and does nothing of its own
  bool part = false;                 // only a part of it is what is looked for
};

class Sprite {
 public:
  Sprite(RandomStream& random, Shape shape, const Palette& palette, const Photographs& photographs,
         const SpriteOptions& options);

  Shape shape() const { return shape_; }
  void take_surface_of(const Sprite& other) { surface_ = other.surface_; }

  // Of all that is drawn, and of what is looked for; px of the image, may reach beyond it.
  cv::Rect2d extent(const Camera& camera, double t) const;
  cv::Rect2d box(const Camera& camera, double t) const;
  // Over the image's pixels of `area`: colours and opacity.
  void render(const Camera& camera, double t, const cv::Rect& area, cv::Mat3b& colours,
              cv::Mat1b& opacity) const;
  // Over what is in the image.
  void paste(const Camera& camera, double t, cv::Mat3b& image) const;
  // The opacity of what is looked for.
  void render_target(const Camera& camera, double t, const cv::Rect& area,
                     cv::Mat1b& opacity) const;

 private:
  using Outline = std::vector<cv::Point2d>;
  cv::Matx23d pose(const Camera& camera, double t) const;  // from the unit square to the image
  cv::Point2d bend(const cv::Point2d& p, double t) const;  // by how much a place is moved
  cv::Rect2d bounds(const std::vector<Outline>& outlines, const cv::Matx23d& pose, double t) const;
  template <typename Pixel>
  void warp(const std::vector<cv::Mat_<Pixel>>& levels, const cv::Matx23d& pose, double t,
            const cv::Rect& area, int border, cv::Mat_<Pixel>& out) const;
  void draw(RandomStream& random, const Palette& palette, const Photographs& photographs);

  Shape shape_;
  bool attached_;
  std::vector<Outline> parts_, wanted_;  // in the unit square
  std::vector<cv::Mat3b> surface_;       // the unit square, halved again and again
  std::vector<cv::Mat1b> mask_, wanted_mask_;
  cv::Point2d centre_;
  double radius_, aspect_, start_turn_, bending_;
  Wave x_, y_, grow_, turn_, side_, lean_, bend_x_, bend_y_;
  double light_, light_angle_;
};

}  // namespace comba::datasets
