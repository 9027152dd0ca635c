#include "vision/engine/gradient_reducer.h"

#include "vision/base/error.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

namespace comba::vision {

namespace {

// Elements from the beginning of one gradient to that of the next: they begin where vectors of 16 bytes may, or the optimizer's
// kernels would read them one by one.
int64_t room_for(const at::Tensor& parameter) {
  constexpr int64_t kAligned = 32;
  return (parameter.numel() + kAligned - 1) / kAligned * kAligned;
}

}  // namespace

// Unlike a hook of the node that accumulates the gradient it keeps no such node alive, which would bind it to the stream of
// the first step.
class GradientReducer::Hook final : public torch::autograd::PostAccumulateGradHook {
 public:
  Hook(GradientReducer& reducer, size_t bucket) : reducer_(reducer), bucket_(bucket) {}
  void operator()(const torch::autograd::Variable& /*parameter*/) override {
    reducer_.arrived(bucket_);
  }

 private:
  GradientReducer& reducer_;
  size_t bucket_;
};

GradientReducer::GradientReducer(const torch::nn::Module& model, std::shared_ptr<Ranks> ranks,
                                 int64_t bucket_bytes)
    : ranks_(std::move(ranks)) {
  std::vector<at::Tensor> parameters;
  for (const at::Tensor& parameter : model.parameters()) {
    if (parameter.requires_grad()) {
      parameters.push_back(parameter);
    }
  }
  // Backward comes by the layers in about the opposite of the order in which they were registered.
  std::reverse(parameters.begin(), parameters.end());
  fill_buckets(parameters, bucket_bytes);
}

GradientReducer::~GradientReducer() {
  for (const Bucket& bucket : buckets_) {
    for (const at::Tensor& parameter : bucket.parameters) {
      torch::autograd::impl::set_post_acc_grad_hooks(parameter, nullptr);
    }
  }
}

void GradientReducer::fill_buckets(const std::vector<at::Tensor>& parameters,
                                   int64_t bucket_bytes) {
  int64_t bytes = 0;
  for (const at::Tensor& parameter : parameters) {
    const auto more = static_cast<int64_t>(parameter.nbytes());
    if (buckets_.empty() || bytes + more > bucket_bytes ||
        buckets_.back().parameters.front().scalar_type() != parameter.scalar_type()) {
      buckets_.emplace_back();
      bytes = 0;
    }
    buckets_.back().parameters.push_back(parameter);
    bytes += more;
  }
  for (size_t i = 0; i < buckets_.size(); ++i) {
    Bucket& bucket = buckets_[i];
    int64_t count = 0;
    for (const at::Tensor& parameter : bucket.parameters) {
      count += room_for(parameter);
    }
    bucket.memory = at::zeros({count}, bucket.parameters.front().options().requires_grad(false));
    int64_t first = 0;
    for (const at::Tensor& parameter : bucket.parameters) {
      bucket.parts.push_back(
          bucket.memory.narrow(0, first, parameter.numel()).view(parameter.sizes()));
      first += room_for(parameter);
      torch::autograd::impl::set_post_acc_grad_hooks(parameter, std::make_unique<Hook>(*this, i));
    }
    bucket.missing = bucket.parameters.size();
  }
}

void GradientReducer::arrived(size_t bucket) {
  if (!active_) {
    return;
  }
  COMBA_CHECK(buckets_[bucket].missing > 0,
              "reducing gradients: a second backward() began before finish(); call "
              "set_active(false) before those whose gradients are to be added up");
  --buckets_[bucket].missing;
  while (sent_ < buckets_.size() && buckets_[sent_].missing == 0) {
    send(buckets_[sent_++]);
  }
}

void GradientReducer::send(Bucket& bucket) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> from, to;
  for (size_t i = 0; i < bucket.parameters.size(); ++i) {
    const at::Tensor& gradient = bucket.parameters[i].grad();
    if (!gradient.defined()) {
      bucket.parts[i].zero_();
    } else if (!gradient.is_alias_of(bucket.parts[i])) {
      // In one dimension, or strides of a dimension of one element keep the copies from being made together.
      from.push_back(gradient.contiguous().view(-1));
      to.push_back(bucket.parts[i].view(-1));
    }
  }
  if (!from.empty()) {
    at::_foreach_copy_(to, from);
  }
  waits_.push_back(ranks_->start_mean(bucket.memory));
}

void GradientReducer::finish() {
  while (sent_ < buckets_.size()) {  // those with a parameter that had no part in the loss
    send(buckets_[sent_++]);
  }
  for (const Ranks::Wait& wait : waits_) {
    wait();
  }
  waits_.clear();
  sent_ = 0;
  for (Bucket& bucket : buckets_) {
    bucket.missing = bucket.parameters.size();
    for (size_t i = 0; i < bucket.parameters.size(); ++i) {
      at::Tensor& gradient = bucket.parameters[i].mutable_grad();
      if (gradient.defined()) {
        gradient = bucket.parts[i];
      }
    }
  }
}

}  // namespace comba::vision
