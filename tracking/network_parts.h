// The two halves of a tracker's network: what is computed once for an object, and what each frame needs.
#pragma once

#include "tracking/network.h"

namespace comba::tracking {

// templates [B, n, C, S_t, S_t] -> tokens [B, n patches of a template, d]
torch::Tensor embed_templates(const NetworkImpl& network, const torch::Tensor& templates);

// search [B, C, S, S]
CenterMaps find_target(const NetworkImpl& network, const torch::Tensor& template_tokens,
                       const torch::Tensor& search);

}  // namespace comba::tracking
