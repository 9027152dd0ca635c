// The frames of sequences, one after the other, decoded ahead by threads of its own.
#pragma once

#include "datasets/image.h"
#include "datasets/ordered_batches.h"
#include "tracking/benchmark.h"

#include <atomic>

namespace comba::tracking {

class FrameReader {
 public:
  static constexpr int64_t kAhead = 8;  // frames decoded or being decoded, the bound of its memory

  explicit FrameReader(int threads);
  // Drops what is left of the sequence before.
  void start(const FrameFiles& frames);
  // RGB; false after the last. Throws Error naming a frame that cannot be read, perhaps before its turn.
  bool next(datasets::Image& frame) { return frames_.next(frame); }
  // That its threads have spent in all; to be asked when they are idle.
  double seconds() const { return seconds_; }

 private:
  FrameFiles files_;
  std::atomic<double> seconds_ = 0;
  datasets::OrderedBatches<datasets::Image, kAhead> frames_;  // last: its threads use the rest
};

}  // namespace comba::tracking
