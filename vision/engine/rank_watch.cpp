#include "vision/engine/rank_watch.h"

#include "vision/base/error.h"

#include <exception>
#include <utility>

#include <unistd.h>

namespace comba::vision {
namespace {

constexpr const char* kLeft = "left";

}  // namespace

std::string sign_of_life(int64_t rank) { return fmt::format("alive/{}", rank); }

RankWatch::RankWatch(StorePointer store, const RankPlace& place,
                     std::function<void(std::string)> lost, const RankWatchOptions& options)
    : store_(std::move(store)),
      place_(place),
      lost_(std::move(lost)),
      options_(options),
      answered_(Clock::now()) {
  listener_ = std::thread([this] { listen(); });
  guard_ = std::thread([this] { guard(); });
}

RankWatch::~RankWatch() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  listener_.join();
  guard_.join();
}

bool RankWatch::pause() {
  std::unique_lock lock(mutex_);
  return !wake_.wait_for(lock, options_.beat, [&] { return stop_ || told_; });
}

void RankWatch::tell(const std::string& what) {
  {
    const std::lock_guard lock(mutex_);
    if (stop_ || std::exchange(told_, true)) {
      return;
    }
  }
  wake_.notify_all();
  lost_(what);
}

std::string RankWatch::store_host() const {
  return place_.store_is_kept
             ? "the launcher"
             : fmt::format("rank 0 (which keeps the store at {}:{})", place_.host, place_.port);
}

void RankWatch::listen() {
  struct Other {
    std::string last;
    Clock::time_point changed;
  };
  std::vector<Other> others(static_cast<size_t>(place_.size), {"", Clock::now()});
  try {
    for (int64_t beat = 0;; ++beat) {
      store_->set(sign_of_life(place_.rank), std::to_string(beat));
      if (store_->check({kFailure})) {
        return tell(store_->get_to_str(kFailure));
      }
      answered_ = Clock::now();
      for (int64_t rank = 0; rank < place_.size; ++rank) {
        Other& other = others[static_cast<size_t>(rank)];
        const bool seen = store_->check({sign_of_life(rank)});
        const std::string now = seen ? store_->get_to_str(sign_of_life(rank)) : "";
        if (!seen || std::exchange(other.last, now) != now || now == kLeft) {
          other.changed = Clock::now();
        }
        const auto silent = Clock::now() - other.changed;
        if (rank != place_.rank && silent > options_.silence) {
          return tell(fmt::format(
              "rank {} has shown no sign of life for {:.0f} s: its process or its host has died",
              rank, std::chrono::duration<double>(silent).count()));
        }
      }
      if (!pause()) {
        store_->set(sign_of_life(place_.rank), kLeft);
        return;
      }
    }
  } catch (const std::exception& error) {
    tell(fmt::format("{} has died: its store does not answer", store_host()));
  }
}

// A host that has lost its power closes no connection, and listen() would wait for its answer for ever.
void RankWatch::guard() {
  while (pause()) {
    if (Clock::now() - answered_.load() > options_.silence + 5 * options_.beat) {
      return tell(fmt::format("{} has died: its store is silent", store_host()));
    }
  }
}

}  // namespace comba::vision
