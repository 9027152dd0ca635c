// Images for want of data.
#pragma once

#include "datasets/source.h"

#include <memory>

namespace comba::tools {

// Noisy photograph-like JPEGs of 500 x 375 px and some 80 KB, in memory; `views` of each count as images of their own, so
// that large batches can be filled.
std::shared_ptr<datasets::ImageSource> made_up_images(int64_t views = 1024);

}  // namespace comba::tools
