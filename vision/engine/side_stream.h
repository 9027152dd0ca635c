// Work of a GPU beside that of the current stream. On the CPU there are no streams: all is done at once, in order.
#pragma once

#include <functional>
#include <optional>

#include <c10/core/Event.h>
#include <c10/core/Stream.h>

namespace comba::vision {

// A place in the queue of a stream; one that was never marked, or on the CPU, is passed.
class StreamMark {
 public:
  void wait() const;  // returns once the device has come by it
  // What the current stream is given from now on begins behind it.
  void hold_current() const;

 private:
  friend class SideStream;
  friend StreamMark mark_current(const c10::Device& device);
  std::optional<c10::Event> event_;
};

// Behind what the current stream of the device holds.
StreamMark mark_current(const c10::Device& device);

class SideStream {
 public:
  // An urgent stream's kernels go before those of others that wait.
  explicit SideStream(const c10::Device& device, bool urgent = true);
  // Runs `body` with this stream as the current one.
  void run(const std::function<void()>& body) const;
  // The same behind all that the current stream holds; returns when the device has done the body's work.
  void run_alone(const std::function<void()>& body) const;
  // What is given to this stream from now on begins behind all that the current stream holds. Not from within run().
  void follow_current() const;
  StreamMark mark() const;

 private:
  c10::Device device_;
  std::optional<c10::Stream> stream_;  // on a GPU
};

}  // namespace comba::vision
