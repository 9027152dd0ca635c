// COCO's objects as videos of one image. As OSTrack 33b5e12 (lib/train/dataset/coco_seq.py) takes them: every object of
// instances_train2017.json that is no crowd, however small; what has no area is left out by the crop. (Its threshold of 50
// pixels sets a flag that the sampler asks only of real videos.)
#pragma once

#include "tracking/training_video.h"

#include <filesystem>
#include <vector>

namespace comba::tracking {

// DIR/annotations/instances_train2017.json and the images in DIR/train2017 or DIR/images/train2017. A video is named
// "<image id>-<object id>".
std::vector<ListedVideo> coco_entries(const std::filesystem::path& folder);

}  // namespace comba::tracking
