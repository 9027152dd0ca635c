#include "vision/model_cost.h"

namespace comba::vision {
namespace {

struct TokenCost {
  double dense, recurrence;  // MACs a token
};

TokenCost mixer_cost(const BackboneConfig& c, const std::string& mixer, double tokens) {
  const double d = static_cast<double>(c.width);
  if (mixer == "softmax") {
    return {4 * d * d, 2 * tokens * d};
  }
  const double directions = c.directions == "both" ? 2 : 1;
  const double rank = static_cast<double>(c.gate_rank < 0 ? c.width / 8 : c.gate_rank);
  const double gate = c.gate_rank == c.width ? d * d : 2 * d * rank;
  const double projections = 2 * directions * d * static_cast<double>(c.heads());
  const double convolutions =
      c.conv == "none" ? 0 : 3 * directions * d * static_cast<double>(c.conv_size);
  return {4 * d * d + gate + projections + convolutions,
          3 * static_cast<double>(c.head_dim) * d * directions};
}

}  // namespace

ModelCost model_cost(const BackboneConfig& c, int64_t classes) {
  const double d = static_cast<double>(c.width), patches = static_cast<double>(c.patches());
  const double tokens = patches + (c.pool == "cls" ? 1 : 0);
  ModelCost cost;
  cost.dense = patches * static_cast<double>(c.in_channels * c.patch_size * c.patch_size) * d +
               d * static_cast<double>(classes);
  for (int64_t block = 0; block < c.depth; ++block) {
    const TokenCost mixer = mixer_cost(c, c.mixers.empty() ? c.mixer : c.mixers[block], tokens);
    cost.dense += tokens * (mixer.dense + 2 * c.mlp_ratio * d * d);
    cost.recurrence += tokens * mixer.recurrence;
  }
  return cost;
}

}  // namespace comba::vision
