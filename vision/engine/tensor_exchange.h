// How tensors get from rank to rank: one implementation a device.
#pragma once

#include "vision/engine/distributed.h"
#include "vision/engine/rank_store.h"

#include <memory>

namespace comba::vision {

// See Ranks.
class TensorExchange {
 public:
  virtual ~TensorExchange() = default;
  virtual void sum(const at::Tensor& tensor) = 0;
  virtual Ranks::Wait start_mean(const at::Tensor& tensor) = 0;
  virtual void broadcast(const at::Tensor& tensor) = 0;
};

// On the CPU, through the store: for tests and small networks. `exchange` has to outlive it.
std::unique_ptr<TensorExchange> store_tensors(Exchange& exchange, int64_t size);

// On a GPU, through NCCL. Throws Error in a build without it.
std::unique_ptr<TensorExchange> nccl_tensors(const StorePointer& store, const RankPlace& place,
                                             const c10::Device& device);

}  // namespace comba::vision
