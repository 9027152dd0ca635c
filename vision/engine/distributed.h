// Training in several processes, one a GPU: who they are, and what they do together.
//
// Each process is a rank. All of them walk through the same batches, each with its share, and add up their gradients; what one
// of them decides all decide. Text goes through torch's TCPStore, tensors through NCCL or, on the CPU, the store as well.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

namespace comba::vision {

// A process's place among the ranks, as torchrun tells it in the environment.
struct RankPlace {
  int64_t rank = 0, size = 1;              // RANK, WORLD_SIZE
  int64_t local_rank = 0, local_size = 1;  // LOCAL_RANK, LOCAL_WORLD_SIZE: on this host
  std::string host;                        // MASTER_ADDR, MASTER_PORT: of the store
  int64_t port = 0;
  bool store_is_kept = false;  // TORCHELASTIC_USE_AGENT_STORE: by the launcher; else by rank 0
  std::string attempt = "0";   // TORCHELASTIC_RESTART_COUNT: what an earlier one left is not read
};

// Nothing where WORLD_SIZE is not set, or 1. Throws UsageError naming the variable that is missing or wrong.
std::optional<RankPlace> rank_place();

// Each function is called by all ranks, in the same order, with tensors of the same shapes, contiguous and on device(); on a GPU
// they are work of the current stream, and may be captured in a CUDA graph. Every rank gets the same bits.
class Ranks {
 public:
  Ranks() = default;
  virtual ~Ranks() = default;
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  virtual int64_t rank() const = 0;
  virtual int64_t size() const = 0;
  virtual c10::Device device() const = 0;
  bool first() const { return rank() == 0; }

  virtual void sum(const at::Tensor& tensor) = 0;
  // Beside the current stream; what the function that it returns is followed by comes after it.
  using Wait = std::function<void()>;
  virtual Wait start_mean(const at::Tensor& tensor) = 0;
  // The tensor of rank 0; one on the CPU is taken, too.
  virtual void broadcast(const at::Tensor& tensor) = 0;
  // The texts of all ranks, by rank.
  virtual std::vector<std::string> gather(const std::string& text) = 0;

  // Of numbers on the host.
  std::vector<double> sum(const std::vector<double>& numbers);
  // The text of rank 0.
  std::string broadcast(const std::string& text) { return gather(first() ? text : "").front(); }

  // The end, of all: returns once every rank has come here.
  virtual void leave() {}
  // The end of this rank alone: the others stop and say why. If something keeps this process from ending it is ended.
  virtual void fail(const std::string& /*reason*/) noexcept {}
};

// The one rank of a process that is by itself.
std::shared_ptr<Ranks> alone();

// Returns once all ranks have called it. From then on every rank is watched: if one fails or shows no sign of life for half a
// minute this process says which and ends with exit code 1. Throws Error if they do not come together.
std::shared_ptr<Ranks> join_ranks(const RankPlace& place, const c10::Device& device);

// What a launcher of ranks on this host keeps for them: the store, at a port of its own.
class RankStore {
 public:
  RankStore();
  ~RankStore();
  int64_t port() const;
  // Makes all ranks stop and say why, if none has failed before.
  void fail(const std::string& reason);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Throws Error naming what differs, and on which ranks, unless `text` is the same on all.
void check_agreement(Ranks& ranks, const std::string& what, const std::string& text);

}  // namespace comba::vision
