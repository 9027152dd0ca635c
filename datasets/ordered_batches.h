// Batches that worker threads fill a sample at a time and that come out in order, a few of them ahead.
#pragma once

#include "vision/base/stopwatch.h"

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

namespace comba::datasets {

// Threads take one sample at a time from the batches [consumed, consumed + kPrefetch) in order; a batch lives in slot
// (number % kPrefetch). One mutex guards all bookkeeping; samples are filled outside it.
template <typename Batch, int64_t kPrefetch = 3>  // batches under way or waiting
class OrderedBatches {
 public:
  struct Work {
    // Makes room in a batch that may have been used before; returns its number of samples, at least one. On any thread,
    // one at a time. What it throws, next() throws.
    std::function<int64_t(int64_t number, Batch& batch)> open;
    // Fills one sample; on any thread. What it throws, next() throws.
    std::function<void(int64_t number, int64_t place, Batch& batch)> fill;
  };

  // What has been waited for so far, seconds.
  struct Times {
    int64_t threads = 0, taken = 0;  // taken: batches, by next()
    double ready = 0.0;              // batches that were made and not taken yet, summed over them
    double full = 0.0;  // threads that had nothing to do as all batches were made, summed over them
    double wait = 0.0;  // next(), for a batch that was not made yet
  };

  // threads = 0: one per core.
  OrderedBatches(Work work, int64_t threads) : work_(std::move(work)) {
    const int64_t cores = std::max<int64_t>(1, std::thread::hardware_concurrency());
    for (int64_t i = 0; i < (threads > 0 ? threads : cores); ++i) {
      threads_.emplace_back([this] { run(); });
    }
  }
  ~OrderedBatches() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) {
      thread.join();
    }
  }
  OrderedBatches(const OrderedBatches&) = delete;
  OrderedBatches& operator=(const OrderedBatches&) = delete;

  // Drops what was made and goes on with batches first .. end - 1. `prepare` runs while no sample is being filled.
  void start(int64_t first, int64_t end, const std::function<void()>& prepare) {
    std::unique_lock lock(mutex_);
    running_ = false;
    idle_.wait(lock, [&] { return active_ == 0; });
    consumed_ = next_batch_ = first;
    end_ = end;
    next_place_ = 0;
    failure_ = nullptr;
    for (Slot& slot : slots_) {
      slot.number = -1;
    }
    count_ready();
    prepare();
    running_ = true;
    lock.unlock();
    wake_.notify_all();
  }

  // Swaps the next batch with `batch`; false after the last.
  bool next(Batch& batch) {
    std::unique_lock lock(mutex_);
    if (consumed_ >= end_) {
      return false;
    }
    ++times_.taken;
    Slot& slot = slots_[consumed_ % kPrefetch];
    const double before = clock_.seconds();
    ready_.wait(lock, [&] { return failure_ || is_made(consumed_); });
    times_.wait += clock_.seconds() - before;
    if (failure_) {
      std::rethrow_exception(failure_);
    }
    std::swap(batch, slot.batch);
    slot.number = -1;
    ++consumed_;
    count_ready();
    lock.unlock();
    wake_.notify_all();
    return true;
  }

  // Batches that next() would give without waiting.
  int64_t ready() const {
    const std::lock_guard lock(mutex_);
    return failure_ ? 0 : made();
  }

  Times times() const {
    const std::lock_guard lock(mutex_);
    Times times = times_;
    times.threads = static_cast<int64_t>(threads_.size());
    const double now = clock_.seconds();
    times.full += static_cast<double>(full_waits_) * now;
    times.ready += static_cast<double>(counted_) * (now - counted_until_);
    return times;
  }

 private:
  struct Slot {
    int64_t number = -1;         // of the batch in it
    int64_t size = 0, left = 0;  // samples, and those not yet filled
    Batch batch;
  };

  bool is_made(int64_t number) const {
    const Slot& slot = slots_[number % kPrefetch];
    return slot.number == number && slot.left == 0;
  }

  int64_t made() const {
    int64_t count = 0;
    while (count < kPrefetch && is_made(consumed_ + count)) {
      ++count;
    }
    return count;
  }

  // After what changes the number of batches that lie ready. Needs the lock.
  void count_ready() {
    const double now = clock_.seconds();
    times_.ready += static_cast<double>(counted_) * (now - counted_until_);
    counted_ = made();
    counted_until_ = now;
  }

  bool has_more() const { return running_ && !failure_ && next_batch_ < end_; }
  bool has_work() const { return has_more() && next_batch_ < consumed_ + kPrefetch; }

  void wait_for_work(std::unique_lock<std::mutex>& lock) {
    const auto go = [&] { return stop_ || has_work(); };
    if (go()) {
      return;
    }
    const int64_t full = has_more() ? 1 : 0;
    // The end less the beginning; times() adds its own moment for the waits that have not ended.
    times_.full -= static_cast<double>(full) * clock_.seconds();
    full_waits_ += full;
    wake_.wait(lock, go);
    times_.full += static_cast<double>(full) * clock_.seconds();
    full_waits_ -= full;
  }

  // The next sample's slot and place. Needs the lock.
  std::pair<Slot*, int64_t> take() {
    Slot& slot = slots_[next_batch_ % kPrefetch];
    if (next_place_ == 0) {
      slot.number = next_batch_;
      slot.size = slot.left = work_.open(next_batch_, slot.batch);
    }
    const int64_t place = next_place_++;
    if (next_place_ == slot.size) {
      ++next_batch_;
      next_place_ = 0;
    }
    return {&slot, place};
  }

  // For next() to throw; the first one counts. Needs the lock.
  void fail(std::exception_ptr failure) {
    if (!failure_) {
      failure_ = std::move(failure);
    }
    ready_.notify_all();
  }

  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wait_for_work(lock);
      if (stop_) {
        return;
      }
      Slot* slot = nullptr;
      int64_t place = 0;
      try {
        std::tie(slot, place) = take();
      } catch (...) {
        fail(std::current_exception());
        continue;
      }
      const int64_t number = slot->number;
      ++active_;
      lock.unlock();
      std::exception_ptr failure;
      try {
        work_.fill(number, place, slot->batch);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      --active_;
      --slot->left;
      if (failure) {
        fail(failure);
      } else if (slot->left == 0) {
        count_ready();
        ready_.notify_all();
      }
      if (active_ == 0) {
        idle_.notify_all();
      }
    }
  }

  const Work work_;
  const Stopwatch clock_;
  mutable std::mutex mutex_;
  std::condition_variable wake_, ready_, idle_;
  Slot slots_[kPrefetch];
  int64_t consumed_ = 0, next_batch_ = 0, end_ = 0, next_place_ = 0, active_ = 0;
  bool running_ = false, stop_ = false;
  std::exception_ptr failure_;
  Times times_;
  int64_t counted_ = 0;  // batches that times_.ready counts from the moment counted_until_ on
  double counted_until_ = 0.0;
  int64_t full_waits_ = 0;  // threads whose wait times_.full counts at this moment
  std::vector<std::thread> threads_;
};

}  // namespace comba::datasets
