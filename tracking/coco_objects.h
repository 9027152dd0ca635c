// The objects of COCO's files of instances.
#pragma once

#include "tracking/box.h"

#include <cstddef>
#include <cstdint>
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

}  // namespace comba::tracking
