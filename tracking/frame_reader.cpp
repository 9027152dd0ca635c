#include "tracking/frame_reader.h"

#include "datasets/decode.h"
#include "vision/base/stopwatch.h"

namespace comba::tracking {

FrameReader::FrameReader(int threads)
    : frames_({.open = [](int64_t, datasets::Image&) { return 1; },
               .fill =
                   [this](int64_t number, int64_t, datasets::Image& frame) {
                     const Stopwatch watch;
                     frame = datasets::read_image(files_[static_cast<size_t>(number)], 3);
                     seconds_ += watch.seconds();
                   }},
              threads) {}

void FrameReader::start(const FrameFiles& frames) {
  frames_.start(0, static_cast<int64_t>(frames.count), [&] { files_ = frames; });
}

}  // namespace comba::tracking
