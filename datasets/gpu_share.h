// Which images a GPU decodes, where it takes a share of them.
#pragma once

#include <cstdint>

namespace comba::datasets {

// By a hash of the image's position in its source: the same images in every epoch and run, whatever the load, as decoders
// differ in their last bits. An image in a share is in every larger one.
bool in_gpu_share(int64_t index, double share);

}  // namespace comba::datasets
