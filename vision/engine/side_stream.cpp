#include "vision/engine/side_stream.h"

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace comba::vision {
namespace {

c10::Stream current_stream(const c10::Device& device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

}  // namespace

void StreamMark::wait() const {
  if (event_) {
    event_->synchronize();
  }
}

void StreamMark::hold_current() const {
  if (event_) {
    event_->block(current_stream(event_->device()));
  }
}

StreamMark mark_current(const c10::Device& device) {
  StreamMark mark;
  if (device.is_cuda()) {
    mark.event_.emplace(device.type());
    mark.event_->record(current_stream(device));
  }
  return mark;
}

SideStream::SideStream(const c10::Device& device, bool urgent) : device_(device) {
  if (device.is_cuda()) {
    const c10::impl::VirtualGuardImpl guard(device.type());
    stream_ = guard.getStreamFromGlobalPool(device, urgent);
  }
}

void SideStream::run(const std::function<void()>& body) const {
  c10::OptionalStreamGuard guard;
  if (stream_) {
    guard.reset_stream(*stream_);
  }
  body();
}

void SideStream::run_alone(const std::function<void()>& body) const {
  follow_current();
  run(body);
  mark().wait();
}

void SideStream::follow_current() const {
  if (stream_) {
    c10::Event event(device_.type());
    event.record(current_stream(device_));
    event.block(*stream_);
  }
}

StreamMark SideStream::mark() const {
  StreamMark mark;
  if (stream_) {
    mark.event_.emplace(device_.type());
    mark.event_->record(*stream_);
  }
  return mark;
}

}  // namespace comba::vision
