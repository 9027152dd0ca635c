// Learning rates that fall towards the input, for fine-tuning.
#pragma once

#include <cstdint>
#include <string>

namespace comba::vision {

// The share of the learning rate that a backbone's parameter has: decay to the power of the layers above it. Embeddings are
// layer 0, block i is layer i + 1, the last norm and the head are the layer above all blocks (as in BEiT, arXiv 2106.08254,
// and timm).
double layer_lr_share(const std::string& parameter, int64_t depth, double decay);

}  // namespace comba::vision
