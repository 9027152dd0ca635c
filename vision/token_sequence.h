// The two halves of Backbone::forward_sequence(), for sequences of which a part is kept.
#pragma once

#include "vision/backbone.h"

namespace comba::vision {

// images [B, C, S, S], S any multiple of the patch size -> [B, N, d] patches with their positions.
torch::Tensor embed_patches(const BackboneImpl& backbone, const torch::Tensor& images);

// tokens [B, T, d] through all blocks and the last norm; the first `prefix` never read those behind them.
torch::Tensor run_blocks(const BackboneImpl& backbone, torch::Tensor tokens, int64_t prefix);

// The same of blocks that belong to no backbone. `again`: the backward pass computes them again, see nn/recompute.h.
torch::Tensor run_blocks(const std::vector<Block>& blocks, const Norm& norm, torch::Tensor tokens,
                         int64_t prefix, bool again);

}  // namespace comba::vision
