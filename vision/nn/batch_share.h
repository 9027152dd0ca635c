// The part of each batch that this process has, where several share it.
#pragma once

#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>

namespace comba::vision {

// The `rank`-th of `size` equal parts. What is drawn at random for samples is drawn for the whole batch by each of the processes,
// and statistics of a batch are taken over the whole of it: so that nothing depends on their number.
struct BatchShare {
  int64_t rank = 0, size = 1;
  // Adds up a tensor of all parts, see Ranks; called by all at the same places of forward and backward.
  std::function<void(const at::Tensor&)> sum;
};

// Of the process, like LibTorch's generators; not to be changed between a forward pass and its backward pass.
void set_batch_share(BatchShare share);
const BatchShare& batch_share();

}  // namespace comba::vision
