// Made-up labelled pictures in ImageNet's layout, for tests and benchmarks: things whose shape and colours tell their class,
// before leaves, house fronts and patterns.
//
//   DIR/train/n00000001/n00000001_0.JPEG ...     class folders
//   DIR/val/ILSVRC2012_val_00000001.JPEG ...     flat, in mixed order
//   DIR/val.txt                                  "ILSVRC2012_val_00000001.JPEG n00000007", written last
//
// Sizes are ImageNet's usual ones, 500 x 375 px most of all, of some 110 KB. Of 100 files about one each is a grey, a CMYK and a
// progressive JPEG, a PNG that is called .JPEG, and one with an EXIF orientation.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

namespace comba::datasets {

struct SyntheticImagenetOptions {
  uint64_t seed = 0;
  int64_t classes = 10, per_class = 100, validation = 100;
  int threads = 0;  // 0: one per core
};

// Fills `folder`, which must not exist or be empty. The same options give the same bytes, whatever the threads. `done` is told
// the number of images so far, by any thread.
void write_synthetic_imagenet(const std::filesystem::path& folder,
                              const SyntheticImagenetOptions& options,
                              const std::function<void(int64_t)>& done);

}  // namespace comba::datasets
