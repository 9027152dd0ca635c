// A video with boxes to train a tracker on; a still image counts as one.
#pragma once

#include "datasets/image.h"
#include "datasets/source.h"
#include "tracking/benchmark.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace comba::tracking {

// Encoded frames, wherever they lie: in a folder, or in a pack. May be read from many threads.
class VideoFrames {
 public:
  virtual ~VideoFrames() = default;
  virtual datasets::EncodedSample read(size_t frame) const = 0;  // throws Error naming the frame
  virtual std::string name(size_t frame) const = 0;              // for messages
  virtual std::string file_name(size_t frame) const = 0;
};
std::shared_ptr<const VideoFrames> frames_of(const FrameFiles& files);

struct TrainingVideo {
  std::string name;
  std::shared_ptr<const VideoFrames> frames;  // several videos may share them
  std::vector<Box> truth;                     // one a frame
  std::vector<uint8_t>
      usable;          // of each frame: the target is seen and its box, of numbers, has an area
  size_t first = 0;    // the place of its first frame in `frames`
  bool still = false;  // a single image, that is template and search at once

  size_t size() const { return truth.size(); }
  datasets::EncodedSample read(size_t frame) const { return frames->read(first + frame); }
  datasets::Image decode(size_t frame) const;  // RGB
  std::string frame_name(size_t frame) const { return frames->name(first + frame); }
  // Whether frame 0 is the same image as the other's.
  bool same_image(const TrainingVideo& other) const {
    return frames == other.frames && first == other.first;
  }
};

// Clears `usable` where the box has no area or is "nan"; fills it with 1 where it is shorter than `truth`.
void use_boxes_with_area(TrainingVideo& video);

// A video that is there, and how to read its annotations, on any thread.
struct ListedVideo {
  std::string name;
  std::function<TrainingVideo()> read;  // throws Error naming the file that is missing or broken
};

}  // namespace comba::tracking
