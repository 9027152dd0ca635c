// Made-up video for tests, benchmarks and training without data: a textured sprite moves over a procedural background, turns,
// grows, blurs, is passed by occluders and by sprites that look like it, and at times leaves the image.
//
// Every frame is a function of (seed, index, frame number) alone: any frame can be drawn first, on any thread.
#pragma once

#include "datasets/image.h"

#include <memory>
#include <string>

namespace comba::datasets {

struct SceneOptions {
  uint64_t seed = 0, index = 0;
  int width = 640, height = 480, length = 100;  // px, px, frames
};

struct SceneFrame {
  Image image;  // RGB
  double x, y, w,
      h;  // the whole target's bounding box, px from the image's corner; may reach beyond it
  double inside,
      visible;  // shares of the target's area: within the image; seen, not covered by anything
};

class SyntheticScene {
 public:
  explicit SyntheticScene(const SceneOptions& options);
  ~SyntheticScene();
  SyntheticScene(const SyntheticScene&) = delete;
  SyntheticScene& operator=(const SyntheticScene&) = delete;

  SceneFrame frame(int number) const;  // 0 .. length - 1
  const std::string& object_class()
      const;  // the target's shape: "blob", "star", "block" or "shard"

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace comba::datasets
