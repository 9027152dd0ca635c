// What the ranks know of each other: texts and bytes by name, kept by torch's TCPStore.
#pragma once

#include "vision/engine/distributed.h"

#include <chrono>
#include <string>
#include <vector>

#include <torch/csrc/distributed/c10d/Store.hpp>

namespace comba::vision {

using StorePointer = c10::intrusive_ptr<c10d::Store>;

// A connection of its own; one call at a time. Throws Error if nobody answers.
StorePointer connect_store(const RankPlace& place, bool may_serve);

// Before all names, with RankPlace::attempt behind it.
inline constexpr const char* kStorePrefix = "comba/";

// The name under which the first failure is left, by a rank or by the launcher.
inline constexpr const char* kFailure = "failure";

// Leaves `reason` unless there is one already.
void report_failure(c10d::Store& store, const std::string& reason);

// Gives and takes bytes in turns that all ranks make together.
class Exchange {
 public:
  Exchange(StorePointer store, int64_t rank, int64_t size)
      : store_(std::move(store)), rank_(rank), size_(size) {}
  using Bytes = std::vector<uint8_t>;
  // Those of all ranks, by rank.
  std::vector<Bytes> gather(const Bytes& bytes);
  // Those of rank 0.
  Bytes broadcast(const Bytes& bytes);
  c10d::Store& store() { return *store_; }

 private:
  void put(const Bytes& bytes);
  Bytes take(int64_t rank);
  void forget();

  StorePointer store_;
  int64_t rank_, size_;
  int64_t turn_ = 0;
  std::vector<std::string> given_;  // keys of this rank that the store still holds
};

}  // namespace comba::vision
