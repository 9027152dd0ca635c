// Images of any source into a pack, by many threads, in an order and with bytes that do not depend on their number, and with
// as little lost as can be when the machine stops.
#pragma once

#include "datasets/image_error.h"
#include "datasets/pack.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace comba::datasets {

struct PackOptions {
  int64_t short_side = 0;  // px; larger images shrink to it; 0: none do
  int64_t quality = 90;    // of JPEGs that are encoded anew, 1..100
  bool as_is = false;      // keeps the bytes of every image that can be decoded
  bool skip_bad = false;   // else a bad image leaves the pack unfinished
  int64_t threads = 0;     // 0: one per core
  uint64_t shard_bytes = kShardBytes;
  // Between two points where an interrupted run goes on lie at most so many bytes and about so much time.
  uint64_t save_bytes = uint64_t{64} << 20;
  double save_seconds = 2;
};

struct PackReport {
  bool finished = false;
  int64_t images = 0, encoded = 0;  // in the pack; of them, those that are not the source's bytes
  std::vector<RejectedImage> rejected;
  std::map<std::string, int64_t>
      peculiar;  // images in the pack, by what is unusual about their files
};

// Decodes every image whole. A plain JPEG (see ImageFacts) keeps its bytes; others, and those to shrink, become baseline
// JPEGs of YCbCr 4:2:0. EXIF orientation is applied nowhere, as Pillow does on opening.
//
// What is done is written down in NAME.pack.journal beside the shards, so that the same call goes on after a crash or a full
// disk and ends with the same bytes as one that was not stopped. With other options or another list of images it is an Error
// that names the difference.
//
// Without skip_bad a file that cannot be read is an Error, and the next call tries it again; with images that are bad nothing
// is finished and nothing is lost: a call with skip_bad ends at once. `done`: images so far, in the first call those of an
// earlier run; and how many of them are bad.
PackReport pack_images(const ImageSource& source, const std::filesystem::path& index,
                       const PackOptions& options,
                       const std::function<void(int64_t done, int64_t bad)>& done);

}  // namespace comba::datasets
