// What condition a set of images is in.
#pragma once

#include "datasets/image_error.h"
#include "datasets/source.h"

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace comba::datasets {

struct ImageHealth {
  std::vector<int64_t> per_class;  // of all images
  int64_t checked = 0,
          bytes = 0;  // images that were decoded whole, and their files' bytes together
  std::vector<RejectedImage> bad;  // of those checked, in the source's order
  std::map<std::string, int64_t>
      peculiar;  // of those that can be decoded, by what is unusual, see inspect.h
  std::map<int, int64_t> short_sides;  // and by the shorter side, px
};

// Decodes `count` images spread at random, the same at each call; 0: all. `done`: how many so far, by one thread at a time.
ImageHealth examine_images(const ImageSource& source, int64_t count, int threads,
                           const std::function<void(int64_t)>& done);

}  // namespace comba::datasets
