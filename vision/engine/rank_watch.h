// Notices that another rank has died, whatever this one is waiting for.
#pragma once

#include "vision/engine/rank_store.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace comba::vision {

// The name of what a rank changes as long as it lives.
std::string sign_of_life(int64_t rank);

struct RankWatchOptions {
  std::chrono::milliseconds beat{1000};      // between signs of life
  std::chrono::milliseconds silence{30000};  // after which a rank counts as dead
};

class RankWatch {
 public:
  // `lost` is called once, with what has happened, on a thread of the watch. A rank is missed once it has been seen. The store: a
  // connection that nobody else uses.
  RankWatch(StorePointer store, const RankPlace& place, std::function<void(std::string)> lost,
            const RankWatchOptions& options = {});
  // From then on this rank is not missed.
  ~RankWatch();
  RankWatch(const RankWatch&) = delete;
  RankWatch& operator=(const RankWatch&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  void listen();
  void guard();
  bool pause();  // false: it is time to end
  void tell(const std::string& what);
  std::string store_host() const;

  StorePointer store_;
  const RankPlace place_;
  const std::function<void(std::string)> lost_;
  const RankWatchOptions options_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false, told_ = false;
  std::atomic<Clock::time_point> answered_;  // when the store last did
  std::thread listener_, guard_;
};

}  // namespace comba::vision
