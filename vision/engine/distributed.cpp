#include "vision/engine/distributed.h"

#include "vision/base/error.h"
#include "vision/base/log.h"
#include "vision/engine/rank_store.h"
#include "vision/engine/rank_watch.h"
#include "vision/engine/tensor_exchange.h"

#include <charconv>
#include <cstdlib>
#include <thread>

#include <ATen/ops/tensor.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace comba::vision {
namespace {

constexpr std::chrono::seconds kLastWords{20};
constexpr std::chrono::minutes kMeeting{10};

const char* variable(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : nullptr;
}

int64_t number(const char* name, std::optional<int64_t> otherwise = std::nullopt) {
  const char* const text = variable(name);
  if (text == nullptr) {
    if (otherwise) {
      return *otherwise;
    }
    throw UsageError(fmt::format(
        "training in several processes: WORLD_SIZE is set, but {} is not; start all ranks with "
        "comba train --gpus N or with torchrun --no-python -- comba ..., or unset WORLD_SIZE",
        name));
  }
  int64_t value = 0;
  const char* const end = text + std::char_traits<char>::length(text);
  const auto [rest, error] = std::from_chars(text, end, value);
  if (error != std::errc() || rest != end || value < 0) {
    throw UsageError(
        fmt::format("training in several processes: {} = \"{}\": expected a number", name, text));
  }
  return value;
}

class Alone final : public Ranks {
 public:
  int64_t rank() const override { return 0; }
  int64_t size() const override { return 1; }
  c10::Device device() const override { return c10::kCPU; }
  void sum(const at::Tensor& /*tensor*/) override {}
  Wait start_mean(const at::Tensor& /*tensor*/) override {
    return [] {};
  }
  void broadcast(const at::Tensor& /*tensor*/) override {}
  std::vector<std::string> gather(const std::string& text) override { return {text}; }
};

class Joined final : public Ranks {
 public:
  Joined(const RankPlace& place, const c10::Device& device)
      : place_(place),
        device_(device),
        exchange_(connect_store(place, /*may_serve=*/true), place.rank, place.size) {
    watch_.emplace(connect_store(place, /*may_serve=*/false), place,
                   [rank = place.rank](const std::string& what) {
                     log::error(
                         "{}. Rank {} ends as well; go on from the last checkpoint with "
                         "--resume",
                         what, rank);
                     std::_Exit(kExitRuntime);
                   });
    meet();
    tensors_ = device.is_cuda() ? nccl_tensors(connect_store(place, false), place, device)
                                : store_tensors(exchange_, place.size);
  }

  int64_t rank() const override { return place_.rank; }
  int64_t size() const override { return place_.size; }
  c10::Device device() const override { return device_; }

  void sum(const at::Tensor& tensor) override {
    watched([&] { tensors_->sum(tensor); });
  }
  Wait start_mean(const at::Tensor& tensor) override {
    Wait wait;
    watched([&] { wait = tensors_->start_mean(tensor); });
    return wait;
  }
  void broadcast(const at::Tensor& tensor) override {
    watched([&] {
      if (tensor.device() == device_) {
        tensors_->broadcast(tensor);
      } else {
        store_tensors(exchange_, place_.size)->broadcast(tensor);
      }
    });
  }
  std::vector<std::string> gather(const std::string& text) override {
    std::vector<std::string> texts;
    watched([&] {
      for (const Exchange::Bytes& bytes : exchange_.gather({text.begin(), text.end()})) {
        texts.emplace_back(bytes.begin(), bytes.end());
      }
    });
    return texts;
  }

  void leave() override {
    gather("");
    watch_.reset();
    tensors_.reset();
    // The one that keeps the store goes last.
    exchange_.store().set(fmt::format("gone/{}", place_.rank), "");
    if (place_.rank != 0 || place_.store_is_kept) {
      return;
    }
    try {
      for (int64_t rank = 1; rank < place_.size; ++rank) {
        exchange_.store().wait({fmt::format("gone/{}", rank)}, kLastWords);
      }
    } catch (const c10::Error&) {  // what it had to do is done
    }
  }

  void fail(const std::string& reason) noexcept override {
    std::thread([] {  // what a GPU was given may wait for the others for ever
      std::this_thread::sleep_for(kLastWords);
      std::_Exit(kExitRuntime);
    })
        .detach();
    watch_.reset();
    try {
      report_failure(*connect_store(place_, false),
                     fmt::format("rank {} has failed: {}", place_.rank, reason));
    } catch (const std::exception&) {  // they will notice
    }
  }

 private:
  // Before that nobody is missed: hosts may take their time to start.
  void meet() {
    c10d::Store& store = exchange_.store();
    const auto patience = store.getTimeout();
    store.setTimeout(kMeeting);
    try {
      exchange_.gather({});
    } catch (const c10::Error&) {
      std::string absent;
      for (int64_t rank = 0; rank < place_.size; ++rank) {
        if (!store.check({sign_of_life(rank)})) {
          absent += fmt::format(" {}", rank);
        }
      }
      throw Error(fmt::format(
          "joining {} ranks, on rank {}: waited {} minutes for rank{}; start every rank, each with "
          "its RANK and the same WORLD_SIZE, MASTER_ADDR and MASTER_PORT",
          place_.size, place_.rank, kMeeting.count(), absent));
    }
    store.setTimeout(patience);
  }

  // Where the store or NCCL notices first that another has died the watch is given the time to say who.
  template <typename Body>
  void watched(const Body& body) {
    try {
      body();
    } catch (const c10::Error& error) {
      const RankWatchOptions patience;
      std::this_thread::sleep_for(patience.silence + 5 * patience.beat);
      throw Error(fmt::format("exchanging data among {} ranks, on rank {}: {}", place_.size,
                              place_.rank, error.what_without_backtrace()));
    }
  }

  const RankPlace place_;
  const c10::Device device_;
  Exchange exchange_;
  std::optional<RankWatch> watch_;
  std::unique_ptr<TensorExchange> tensors_;
};

}  // namespace

std::optional<RankPlace> rank_place() {
  RankPlace place;
  place.size = number("WORLD_SIZE", 1);
  if (place.size <= 1) {
    return std::nullopt;
  }
  place.rank = number("RANK");
  place.local_rank = number("LOCAL_RANK");
  place.local_size = number("LOCAL_WORLD_SIZE", 1);
  place.port = number("MASTER_PORT");
  const char* const host = variable("MASTER_ADDR");
  if (host == nullptr || place.rank >= place.size || place.port > 65535) {
    throw UsageError(fmt::format(
        "training in several processes: RANK = {}, WORLD_SIZE = {}, MASTER_ADDR = {}, MASTER_PORT "
        "= {}: expected a rank below the number of ranks, the address of rank 0's host and a port "
        "below 65536",
        place.rank, place.size, host == nullptr ? "(not set)" : host, place.port));
  }
  place.host = host;
  const char* const kept = variable("TORCHELASTIC_USE_AGENT_STORE");
  place.store_is_kept = kept != nullptr && std::string(kept) == "True";
  const char* const attempt = variable("TORCHELASTIC_RESTART_COUNT");
  place.attempt = attempt == nullptr ? "0" : attempt;
  return place;
}

std::vector<double> Ranks::sum(const std::vector<double>& numbers) {
  const at::Tensor tensor = at::tensor(numbers, at::kDouble).to(device());
  sum(tensor);
  const at::Tensor sums = tensor.cpu();
  const double* const first = sums.const_data_ptr<double>();
  return {first, first + sums.numel()};
}

std::shared_ptr<Ranks> alone() { return std::make_shared<Alone>(); }

std::shared_ptr<Ranks> join_ranks(const RankPlace& place, const c10::Device& device) {
  return std::make_shared<Joined>(place, device);
}

void check_agreement(Ranks& ranks, const std::string& what, const std::string& text) {
  const std::vector<std::string> texts = ranks.gather(text);
  std::string others;
  for (size_t rank = 1; rank < texts.size(); ++rank) {
    if (texts[rank] != texts[0]) {
      others += fmt::format("{}{} has {}", others.empty() ? "" : ", ", rank, texts[rank]);
    }
  }
  COMBA_CHECK(others.empty(),
              "training on {} ranks: {} differs: rank 0 has {}, rank {}; start every rank with the "
              "same program, configuration and data",
              ranks.size(), what, texts[0], others);
}

struct RankStore::Impl {
  c10::intrusive_ptr<c10d::TCPStore> server;
};

RankStore::RankStore() : impl_(std::make_unique<Impl>()) {
  c10d::TCPStoreOptions options;
  options.port = 0;  // any that is free
  options.isServer = true;
  options.waitWorkers = false;
  impl_->server = c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
}
RankStore::~RankStore() = default;

int64_t RankStore::port() const { return impl_->server->getPort(); }

void RankStore::fail(const std::string& reason) {
  c10d::PrefixStore store(kStorePrefix + std::string("0"), impl_->server);
  report_failure(store, reason);
}

}  // namespace comba::vision
