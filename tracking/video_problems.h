// What is wrong with videos to train on, before hours are spent on them.
#pragma once

#include "tracking/training_video.h"

#include <span>
#include <string>
#include <vector>

namespace comba::tracking {

// A line each: annotations that cannot be read or are known to be wrong, frames that are missing, unreadable or of another
// size than the first, boxes of visible targets that lie outside of the image. Decodes every frame; an image that follows
// itself (COCO's objects of one image), once.
struct VideoProblems {
  std::vector<std::string> lines;
  size_t videos = 0;  // that have any
};
VideoProblems video_problems(std::span<const ListedVideo> videos);

}  // namespace comba::tracking
