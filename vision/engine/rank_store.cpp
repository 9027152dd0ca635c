#include "vision/engine/rank_store.h"

#include "vision/base/error.h"

#include <algorithm>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace comba::vision {
namespace {

// Ranks wait for each other while one writes a checkpoint or waits for its data; who has died is RankWatch's to find.
constexpr std::chrono::hours kPatience{12};
constexpr std::chrono::seconds kConnecting{120};
constexpr size_t kLargest = size_t{4} << 20;  // the store takes no value of more than 8 MiB

}  // namespace

StorePointer connect_store(const RankPlace& place, bool may_serve) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(place.port);
  options.isServer = may_serve && place.rank == 0 && !place.store_is_kept;
  options.waitWorkers = false;
  options.timeout = kConnecting;
  try {
    auto store = c10::make_intrusive<c10d::TCPStore>(place.host, options);
    store->setTimeout(kPatience);
    return c10::make_intrusive<c10d::PrefixStore>(kStorePrefix + place.attempt, std::move(store));
  } catch (const c10::Error& error) {
    throw Error(fmt::format(
        "joining the other ranks as rank {} of {}: {} {}:{} (MASTER_ADDR, MASTER_PORT): {}. {}",
        place.rank, place.size, options.isServer ? "cannot listen at" : "nobody answers at",
        place.host, place.port, error.what_without_backtrace(),
        options.isServer ? "Name a port that is free"
                         : "Start every rank within two minutes, with the same address, and look "
                           "for a firewall"));
  }
}

void report_failure(c10d::Store& store, const std::string& reason) {
  store.compareSet(kFailure, "", reason);
}

void Exchange::put(const Bytes& bytes) {
  const auto key = [&](const std::string& part) {
    given_.push_back(fmt::format("turn/{}/{}/{}", turn_, rank_, part));
    return given_.back();
  };
  size_t parts = 0;
  for (size_t first = 0; first < bytes.size(); first += kLargest) {
    const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(first);
    const auto size = static_cast<std::ptrdiff_t>(std::min(kLargest, bytes.size() - first));
    store_->set(key(std::to_string(parts++)), Bytes(begin, begin + size));
  }
  store_->set(key("parts"), std::to_string(parts));
}

Exchange::Bytes Exchange::take(int64_t rank) {
  const std::string prefix = fmt::format("turn/{}/{}/", turn_, rank);
  const size_t parts = std::stoul(store_->get_to_str(prefix + "parts"));
  Bytes bytes;
  for (size_t i = 0; i < parts; ++i) {
    const Bytes part = store_->get(prefix + std::to_string(i));
    bytes.insert(bytes.end(), part.begin(), part.end());
  }
  return bytes;
}

// Keys of earlier turns: who has given something in this turn has taken all before it.
void Exchange::forget() {
  const std::string now = fmt::format("turn/{}/", turn_);
  std::erase_if(given_, [&](const std::string& key) {
    if (key.starts_with(now)) {
      return false;
    }
    store_->deleteKey(key);
    return true;
  });
}

std::vector<Exchange::Bytes> Exchange::gather(const Bytes& bytes) {
  put(bytes);
  std::vector<Bytes> all;
  for (int64_t rank = 0; rank < size_; ++rank) {
    all.push_back(rank == rank_ ? bytes : take(rank));
  }
  forget();
  ++turn_;
  return all;
}

Exchange::Bytes Exchange::broadcast(const Bytes& bytes) {
  Bytes first = bytes;
  if (rank_ == 0) {
    put(bytes);
  } else {
    first = take(0);
  }
  ++turn_;
  return first;
}

}  // namespace comba::vision
