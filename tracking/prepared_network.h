// The tracker's network for inference: from pixels to the head's rows. Normalisation of pixels is part of the patch embedding;
// templates are embedded once, and in the asymmetric form they go through the blocks once.
#pragma once

#include "tracking/network.h"
#include "tracking/prepared_head.h"
#include "vision/prepared_backbone.h"

#include <vector>

namespace comba::tracking {

class PreparedNetwork {
 public:
  // fp16 on CUDA, fp32 on the CPU. mean, std: of pixels scaled to 0..1, a channel.
  PreparedNetwork(const Network& network, const std::vector<double>& mean,
                  const std::vector<double>& std, const c10::Device& device);

  // [N, n, S_t, S_t, C] uint8 on any device. For as many objects as before, tensors stay where they are.
  void set_templates(const at::Tensor& pixels);
  int64_t objects() const { return base_.defined() ? base_.size(0) : 0; }
  // pixels [N, S, S, C] uint8 on the network's device -> [N, F F, kHeadColumns]
  at::Tensor forward(const at::Tensor& pixels) const;

 private:
  at::Tensor patches(const at::Tensor& pixels) const;

  NetworkConfig config_;
  at::TensorOptions options_;
  at::Tensor patch_weight_;                           // [C p p, d]
  at::Tensor template_positions_, search_positions_;  // [1, tokens of an image, d], bias added
  vision::PreparedBackbone backbone_;
  PreparedHead head_;
  bool in_parts_;
  at::Tensor
      base_;  // [N, T, d] embedded templates and the search image's positions; in parts only the latter
  std::vector<vision::MixerMemory> memory_;  // in parts: of each block
};

}  // namespace comba::tracking
