// COCO's objects as videos of one image. As OSTrack 33b5e12 (lib/train/dataset/coco_seq.py) takes them: every object of
// instances_train2017.json that is no crowd, however small; what has no area is left out by the crop. (Its threshold of 50
// pixels sets a flag that the sampler asks only of real videos.)
#pragma once

#include "tracking/training_video.h"

#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace comba::tracking {

struct CocoObject {
  int64_t id = 0, image_id = 0;
  size_t image = 0;  // its place in the list of images
  Box box;
};
struct CocoObjects {
  std::vector<std::string> images;  // file names
  std::vector<CocoObject> objects;  // those of one image one after the other
};

// The file of instances, read as a stream: no more is kept than what is returned. Throws Error naming the file and the entry
// that is broken.
CocoObjects parse_coco(std::span<const uint8_t> json, const std::filesystem::path& name);

// DIR/annotations/instances_train2017.json and the images in DIR/train2017 or DIR/images/train2017. A video is named
// "<image id>-<object id>".
std::vector<ListedVideo> coco_entries(const std::filesystem::path& folder);

}  // namespace comba::tracking
