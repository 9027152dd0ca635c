// A loop on several threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace comba {

// body(n) for n < count on `threads` threads (0: as many as the machine has); throws what the first failing n threw.
template <typename Body>
void parallel_for(size_t count, int threads, const Body& body) {
  std::atomic<size_t> next{0};
  std::mutex mutex;
  std::exception_ptr error;
  size_t failed = count;
  const auto work = [&] {
    for (size_t n = next++; n < count; n = next++) {
      try {
        body(n);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (n < failed) {
          failed = n;
          error = std::current_exception();
        }
      }
    }
  };
  const size_t wanted = threads > 0 ? static_cast<size_t>(threads)
                                    : std::max(1U, std::thread::hardware_concurrency());
  std::vector<std::jthread> workers;
  for (size_t i = 1; i < std::min(wanted, count); ++i) {
    workers.emplace_back(work);
  }
  work();
  workers.clear();
  if (error) {
    std::rethrow_exception(error);
  }
}

}  // namespace comba
