// Videos in a pack: its images are their frames, its classes their names, each frame labelled with its video; boxes and flags
// are the pack's attachment. The frames' bytes are those of the files, so that training draws the same pairs from either.
//
//   attachment  "VIDEOS 1", u64 1 if the videos are still images (else 0), then for every frame x, y, w, h (f64), and then for
//               every frame u8 1 if it may be used
// An image with several objects (COCO) is stored once, and has a record for each.
#pragma once

#include "datasets/pack.h"
#include "tracking/training_video.h"

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace comba::tracking {

struct VideoPackReport {
  size_t videos = 0, frames = 0;
  std::vector<std::string>
      rejected;  // a line for each video that is not in the pack: which, and why
};

struct VideoPackOptions {
  int threads = 0;      // that read and decode; 0: one per core
  bool strict = false;  // a video that would be rejected is an Error
  uint64_t shard_bytes = datasets::kShardBytes;
};

// Packs the videos in their order. One whose annotations or frames cannot be read is left out. Memory stays small; the same
// videos give the same bytes, whatever the number of threads. `done`: videos so far.
VideoPackReport pack_videos(const std::vector<ListedVideo>& videos,
                            const std::filesystem::path& index, const VideoPackOptions& options,
                            const std::function<void(int64_t)>& done);

// The videos of a pack, in the order in which they were written. Throws Error naming the file if it is no pack of videos.
std::vector<ListedVideo> packed_videos(const std::filesystem::path& index);

}  // namespace comba::tracking
