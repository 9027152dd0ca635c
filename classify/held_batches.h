// Batches whose memory others still read for a while after they were taken.
#pragma once

#include "classify/stream.h"

#include <functional>
#include <vector>

namespace comba::classify {

// A few batches in turn. A stream takes the memory of a batch back when it fills it anew: only then, and not before its
// reader is done.
class HeldBatches {
 public:
  explicit HeldBatches(size_t count) : places_(count) {}
  ~HeldBatches() { release(); }
  HeldBatches(const HeldBatches&) = delete;
  HeldBatches& operator=(const HeldBatches&) = delete;

  // The stream's next batch, or null at the end of the epoch.
  const datasets::Batch* next(BatchStream& stream);
  // `wait` returns once the last next()'s batch is not read any more.
  void hold(std::function<void()> wait) { places_[last_].wait = std::move(wait); }
  // Waits for all readers.
  void release();
  // Spent on waiting for readers, and by the stream for the batches, so far.
  double reader_seconds() const { return reader_seconds_; }
  double stream_seconds() const { return stream_seconds_; }

 private:
  struct Place {
    datasets::Batch batch;
    std::function<void()> wait;
  };
  void wait_for(Place& place);

  std::vector<Place> places_;
  size_t last_ = 0;
  double reader_seconds_ = 0.0, stream_seconds_ = 0.0;
};

}  // namespace comba::classify
