#include "classify/held_batches.h"

#include "vision/base/stopwatch.h"

#include <utility>

namespace comba::classify {

void HeldBatches::wait_for(Place& place) {
  if (place.wait) {
    const Stopwatch watch;
    std::exchange(place.wait, nullptr)();
    reader_seconds_ += watch.seconds();
  }
}

const datasets::Batch* HeldBatches::next(BatchStream& stream) {
  last_ = (last_ + 1) % places_.size();
  Place& place = places_[last_];
  wait_for(place);
  const Stopwatch watch;
  const bool more = stream.next(place.batch);
  stream_seconds_ += watch.seconds();
  return more ? &place.batch : nullptr;
}

void HeldBatches::release() {
  for (Place& place : places_) {
    wait_for(place);
  }
}

}  // namespace comba::classify
