// Multiply-accumulates of a model by formula, in the two conventions of the literature.
#pragma once

#include "vision/backbone.h"

#include <cstdint>

namespace comba::vision {

struct ModelCost {
  double dense = 0;  // MACs of convolutions and linear layers, patch embedding and head, one image
  double recurrence =
      0;  // MACs of what mixes tokens: the scan (3 head_dim a channel, token and direction)
          // or both attention products (agent: all four)
  double total() const { return dense + recurrence; }
};

// Patch embedding of `patches` and all blocks over `tokens`, of which the first `prefix` never read those behind them; no head.
ModelCost backbone_cost(const BackboneConfig& config, int64_t patches, int64_t tokens,
                        int64_t prefix = 0);

// A classifier's, one image. Norms and activations are left out of `dense`, as fvcore-style counters do for element-wise work; the short
// convolutions and the gates' projections are in it.
ModelCost model_cost(const BackboneConfig& config, int64_t classes);

}  // namespace comba::vision
