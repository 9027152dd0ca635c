// Random erasing of a batch (see datasets/erase.h).
#pragma once

#include "datasets/erase.h"

#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::classify {

// images [B, C, S, S] fp32, normalised, on any device; keys [B].
void erase_(at::Tensor& images, const datasets::EraseOptions& options,
            const std::vector<datasets::SampleKey>& keys);

}  // namespace comba::classify
