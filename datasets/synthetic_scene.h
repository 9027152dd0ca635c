// Made-up video for tests, benchmarks and training without data: something moves before a background, turns, grows, bends,
// blurs, is passed by occluders and by things that look like it, and at times leaves the image; the camera moves too.
//
// Every frame is a function of (seed, index, frame number) alone: any frame can be drawn first, on any thread.
#pragma once

#include "datasets/image.h"

#include <memory>
#include <string>
#include <vector>

namespace comba::datasets {

struct SceneOptions {
  uint64_t seed = 0, index = 0;
  int width = 640, height = 480;  // px
  int length = 100, step = 1;     // frames; time from one to the next: 2 moves twice as fast
  // RGB, of any size; surfaces are cut from them. None: all is drawn.
  std::shared_ptr<const std::vector<Image>> photographs = nullptr;
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
      const;  // the target's shape: "blob", "star", "block", "shard" or "figure"

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace comba::datasets
