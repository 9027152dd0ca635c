#include "tracking/video_problems.h"

#include "tracking/training_data.h"
#include "vision/base/error.h"

namespace comba::tracking {
namespace {

class Inspector {
 public:
  void inspect(const ListedVideo& listed) {
    const size_t before = found_.lines.size();
    try {
      inspect(listed.read());
    } catch (const Error& error) {
      found_.lines.push_back(error.what());
    }
    if (known_bad(listed.name)) {
      found_.lines.push_back(fmt::format("{}: its labels are known to be wrong", listed.name));
    }
    found_.videos += found_.lines.size() > before ? 1 : 0;
  }
  VideoProblems take() { return std::move(found_); }

 private:
  void inspect(const TrainingVideo& video) {
    int width = 0, height = 0;
    for (size_t n = 0; n < video.size(); ++n) {
      if ((n > 0 || !previous_.frames || !video.same_image(previous_)) && !decode(video, n)) {
        continue;
      }
      if (width == 0) {
        width = image_.width;
        height = image_.height;
      }
      if (image_.width != width || image_.height != height) {
        found_.lines.push_back(fmt::format("{}: {} x {} pixels, the first frame has {} x {}",
                                           video.frame_name(n), image_.width, image_.height, width,
                                           height));
      }
      check_box(video, n);
    }
    previous_ = video.still ? video : TrainingVideo();
  }

  bool decode(const TrainingVideo& video, size_t frame) {
    try {
      image_ = video.decode(frame);
      return true;
    } catch (const Error& error) {
      image_ = {};
      found_.lines.push_back(error.what());
      return false;
    }
  }

  void check_box(const TrainingVideo& video, size_t n) {
    const Box& box = video.truth[n];
    if (image_.width > 0 && video.usable[n] != 0 &&
        (box.x >= image_.width || box.y >= image_.height || box.x + box.w <= 0 ||
         box.y + box.h <= 0)) {
      found_.lines.push_back(fmt::format(
          "{}: the box {},{},{},{} lies outside of the {} x {} pixels", video.frame_name(n), box.x,
          box.y, box.w, box.h, image_.width, image_.height));
    }
  }

  VideoProblems found_;
  datasets::Image image_;   // the last frame
  TrainingVideo previous_;  // the still that it is
};

}  // namespace

VideoProblems video_problems(std::span<const ListedVideo> videos) {
  Inspector inspector;
  for (const ListedVideo& video : videos) {
    inspector.inspect(video);
  }
  return inspector.take();
}

}  // namespace comba::tracking
