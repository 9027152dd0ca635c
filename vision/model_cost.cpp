#include "vision/model_cost.h"

#include "vision/nn/comba_mixer.h"
#include "vision/nn/mamba_mixer.h"

namespace comba::vision {
namespace {

struct TokenCost {
  double dense, recurrence;  // MACs a token
};

// Of a class token's and of patches' alike, as if the depthwise convolution met both.
TokenCost agent_cost(const BackboneConfig& c) {
  const double d = static_cast<double>(c.width);
  return {4 * d * d + 9 * d, 4 * static_cast<double>(c.agents) * d};
}

// The scan by the literature's 9 operations, half as many MACs, a channel, state, token and direction.
TokenCost mamba_cost(const BackboneConfig& c) {
  const double d = static_cast<double>(c.width),
               inner = static_cast<double>(MambaMixer::inner_width(c.width)),
               rank = static_cast<double>(MambaMixer::delta_rank(c.width)),
               states = static_cast<double>(MambaMixer::kStates);
  const double direction = inner * (MambaMixer::kTaps + 2 * rank + 2 * states);
  return {3 * d * inner + 2 * direction, 2 * 4.5 * inner * states};
}

TokenCost comba_cost(const BackboneConfig& c, const std::string& form) {
  const double d = static_cast<double>(c.width), inner = static_cast<double>(c.scan_width());
  const Recurrence recurrence = recurrence_of(form, c);
  const double directions = c.directions == "both" ? 2 : 1;
  const double rank = static_cast<double>(c.gate_rank < 0 ? c.width / 8 : c.gate_rank);
  const double gate = c.gate_rank == c.width ? d * inner : (d + inner) * rank;
  const double heads = inner / static_cast<double>(c.head_dim);
  const double projections =
      (recurrence.learns_alpha + recurrence.learns_beta) * directions * d * heads;
  const double convolutions =
      c.conv == "none" ? 0 : 3 * directions * inner * static_cast<double>(c.conv_size);
  const double output = c.merge == "concat" ? 2 * inner * d : inner * d;
  return {3 * d * inner + output + gate + projections + convolutions,
          3 * static_cast<double>(c.head_dim) * inner * directions};
}

// `keys`: tokens that a token reads, on average.
TokenCost mixer_cost(const BackboneConfig& c, const std::string& mixer, double keys) {
  const double d = static_cast<double>(c.width);
  if (mixer == "softmax") {
    return {4 * d * d, 2 * keys * d};
  }
  if (mixer == "agent") {
    return agent_cost(c);
  }
  return mixer == "mamba" ? mamba_cost(c) : comba_cost(c, mixer == "comba" ? c.form : mixer);
}

}  // namespace

ModelCost backbone_cost(const BackboneConfig& c, int64_t patches, int64_t tokens, int64_t prefix) {
  const double d = static_cast<double>(c.width), n = static_cast<double>(tokens),
               p = static_cast<double>(prefix);
  ModelCost cost;
  cost.dense = static_cast<double>(patches * c.in_channels * c.patch_size * c.patch_size) * d;
  for (int64_t block = 0; block < c.depth; ++block) {
    const TokenCost mixer = mixer_cost(c, c.mixer_of(block), (p * p + (n - p) * n) / n);
    cost.dense += n * (mixer.dense + 2 * c.mlp_ratio * d * d);
    cost.recurrence += n * mixer.recurrence;
  }
  return cost;
}

ModelCost model_cost(const BackboneConfig& c, int64_t classes) {
  ModelCost cost = backbone_cost(c, c.patches(), c.patches() + (c.has_class_token() ? 1 : 0));
  cost.dense += static_cast<double>(c.width * classes);
  return cost;
}

}  // namespace comba::vision
