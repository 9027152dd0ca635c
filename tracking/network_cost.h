// Multiply-accumulates of a tracker's network by formula, in the two conventions of vision/model_cost.h.
#pragma once

#include "tracking/network.h"
#include "vision/model_cost.h"

namespace comba::tracking {

// One search image with its templates, nothing kept from the frame before; the head's convolutions are in `dense`.
vision::ModelCost network_cost(const NetworkConfig& config);

}  // namespace comba::tracking
