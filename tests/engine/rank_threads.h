// Ranks as threads of one process.
#pragma once

#include "vision/engine/distributed.h"

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <c10/core/DeviceGuard.h>

namespace comba::vision {

inline RankPlace place_of(int64_t rank, int64_t size, int64_t port) {
  RankPlace place;
  place.rank = place.local_rank = rank;
  place.size = place.local_size = size;
  place.host = "127.0.0.1";
  place.port = port;
  place.store_is_kept = true;
  return place;
}

// Runs `body` on every rank, on the CPU or a GPU each; returns what each threw, or "".
inline std::vector<std::string> on_ranks(int64_t size, const std::function<void(Ranks&)>& body,
                                         c10::DeviceType device = c10::kCPU) {
  const RankStore store;
  std::vector<std::string> errors(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        const auto index = static_cast<c10::DeviceIndex>(device == c10::kCPU ? -1 : rank);
        const c10::DeviceGuard guard({device, index});
        const auto ranks = join_ranks(place_of(rank, size, store.port()), {device, index});
        try {
          body(*ranks);
        } catch (const std::exception& error) {
          errors[static_cast<size_t>(rank)] = error.what();
        }
        ranks->leave();
      } catch (const std::exception& error) {
        errors[static_cast<size_t>(rank)] += error.what();
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  return errors;
}

}  // namespace comba::vision
