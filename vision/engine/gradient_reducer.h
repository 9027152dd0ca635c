// Gradients of all ranks become their mean while backward is still at work on the layers before.
#pragma once

#include "vision/engine/distributed.h"

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

namespace comba::vision {

class GradientReducer {
 public:
  static constexpr int64_t kBucketBytes = int64_t{4} << 20;

  // Hooks itself to the parameters: from then on every backward() sends off each bucket of gradients as soon as it is full, in
  // the same order on all ranks, the last layers' first.
  GradientReducer(const torch::nn::Module& model, std::shared_ptr<Ranks> ranks,
                  int64_t bucket_bytes = kBucketBytes);
  ~GradientReducer();
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  // Off: backward() leaves gradients to this rank, for those of several batches to be added up.
  void set_active(bool active) { active_ = active; }
  // After backward(), before the gradients are used: they are the means then, and lie in the buckets' memory, which the next
  // backward() writes over.
  void finish();

 private:
  class Hook;
  struct Bucket {
    std::vector<at::Tensor> parameters;
    at::Tensor memory;              // the gradients of all parameters, one behind the other
    std::vector<at::Tensor> parts;  // of it, in the parameters' shapes
    size_t missing = 0;             // gradients of this backward()
  };
  void fill_buckets(const std::vector<at::Tensor>& parameters, int64_t bucket_bytes);
  void arrived(size_t bucket);
  void send(Bucket& bucket);

  std::shared_ptr<Ranks> ranks_;
  std::vector<Bucket> buckets_;
  size_t sent_ = 0;
  std::vector<Ranks::Wait> waits_;
  bool active_ = true;
};

}  // namespace comba::vision
