// SIGINT and SIGTERM end a training after a step, the same on all ranks.
#pragma once

#include "vision/engine/distributed.h"
#include "vision/engine/side_stream.h"

#include <csignal>
#include <memory>
#include <optional>

namespace comba::vision {

// Catches both while alive; a second one ends the process at once. One object at a time.
class StopSignal {
 public:
  explicit StopSignal(std::shared_ptr<Ranks> ranks);
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  // The signal that all ranks stop for, or 0. With several ranks it is the same on all, and changes in agree() and after_step()
  // alone.
  int received() const;
  // Every rank says what it has got, and learns what others have: on a GPU with the next step, so that nothing waits.
  void after_step();
  // The same, at once.
  void agree();

 private:
  // What became of a vote: [SIGINT, SIGTERM] ranks that got them, on the CPU, once `ready` has come.
  struct Vote {
    at::Tensor counts;
    StreamMark ready;
  };
  Vote vote();
  void count(const Vote& vote);

  std::shared_ptr<Ranks> ranks_;
  int agreed_ = 0;
  std::optional<Vote> open_;
  struct sigaction interrupt_ {
  }, terminate_{};
};

}  // namespace comba::vision
