#include "vision/nn/prepared_softmax.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/scaled_dot_product_attention.h>

namespace comba::vision {
namespace {

class PreparedSoftmax : public PreparedMixer {
 public:
  PreparedSoftmax(const SoftmaxMixer& mixer, int64_t heads, const at::TensorOptions& options)
      : heads_(heads),
        qkv_(mixer.qkv->weight, mixer.qkv->bias, options),
        proj_(mixer.proj->weight, mixer.proj->bias, options) {}

  void add_to(at::Tensor& x, const at::Tensor& normalised, int64_t prefix) const override {
    proj_.add_to(x, attend(qkv_(normalised), heads_, prefix));
  }

  bool takes_parts() const override { return true; }
  // The memory: keys and values [B, H, T, head_dim].
  void add_part_to(at::Tensor& x, const at::Tensor& normalised, const MixerMemory* before,
                   MixerMemory* after) const override {
    const int64_t batch = x.size(0), length = x.size(1), width = x.size(2);
    const auto parts = qkv_(normalised)
                           .view({batch, length, 3, heads_, width / heads_})
                           .permute({2, 0, 3, 1, 4})
                           .unbind(0);
    at::Tensor keys = parts[1], values = parts[2];
    if (before != nullptr) {
      keys = at::cat({before->at(0), keys}, 2);
      values = at::cat({before->at(1), values}, 2);
    }
    const at::Tensor mixed = at::scaled_dot_product_attention(parts[0], keys, values);
    proj_.add_to(x, mixed.transpose(1, 2).reshape({batch, length, width}));
    if (after != nullptr) {
      *after = {keys, values};
    }
  }

 private:
  int64_t heads_;
  PreparedLinear qkv_, proj_;
};

}  // namespace

std::unique_ptr<PreparedMixer> prepare_softmax(const SoftmaxMixer& mixer, int64_t heads,
                                               const at::TensorOptions& options) {
  return std::make_unique<PreparedSoftmax>(mixer, heads, options);
}

}  // namespace comba::vision
