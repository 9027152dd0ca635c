#include "tracking/network_cost.h"

namespace comba::tracking {
namespace {

// Of a cell: 3 x 3 convolutions to the head's width, a half, a quarter and an eighth of it, and one of 1 x 1 (head.cpp).
int64_t branch_cost(int64_t in, int64_t width, int64_t out) {
  int64_t cost = 0;
  for (int64_t divisor = 1; divisor <= 8; divisor *= 2) {
    cost += 9 * in * (width / divisor);
    in = width / divisor;
  }
  return cost + in * out;
}

}  // namespace

vision::ModelCost network_cost(const NetworkConfig& config) {
  const int64_t side = config.template_size / config.backbone.patch_size;
  const int64_t templates = config.templates * side * side;
  const int64_t tokens = templates + config.backbone.patches();
  vision::ModelCost cost =
      vision::backbone_cost(config.backbone, tokens, tokens, config.asymmetric ? templates : 0);
  for (const int64_t maps : {1, 2, 2}) {  // score, offset, size
    cost.dense += static_cast<double>(config.cells() * config.cells() *
                                      branch_cost(config.backbone.width, config.head_width, maps));
  }
  return cost;
}

}  // namespace comba::tracking
