// A backbone's blocks for inference (vision/nn/prepared.h), over tokens that are embedded already.
#pragma once

#include "vision/backbone.h"
#include "vision/nn/prepared.h"

#include <memory>
#include <optional>
#include <vector>

namespace comba::vision {

class PreparedBackbone {
 public:
  // `prefixed`: whether run() will be given one.
  PreparedBackbone(const Backbone& backbone, const at::TensorOptions& options, bool prefixed);

  // Through all blocks: x [B, T, d] contiguous, overwritten; `prefix` as Mixer::forward().
  void run(at::Tensor& x, int64_t prefix) const;
  // The same in parts where takes_parts(): the prefix's tokens leave in `after`, of each block, what the rest takes as `before`.
  bool takes_parts() const;
  void run_part(at::Tensor& x, const std::vector<MixerMemory>* before,
                std::vector<MixerMemory>* after) const;
  at::Tensor norm(const at::Tensor& x) const { return norm_(x); }  // the last one

 private:
  struct PreparedMlp {
    PreparedNorm norm;
    PreparedLinear fc1, fc2;
  };
  struct PreparedBlock {
    PreparedNorm norm;
    std::unique_ptr<PreparedMixer> mixer;
    std::optional<PreparedMlp> mlp;

    void add_mlp(at::Tensor& x) const {
      if (mlp) {
        mlp->fc2.add_to(x, mlp->fc1.gelu(mlp->norm(x)));
      }
    }
  };
  std::vector<PreparedBlock> blocks_;
  PreparedNorm norm_;
};

}  // namespace comba::vision
