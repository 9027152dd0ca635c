// How fast batches for training are made.
#pragma once

#include "datasets/loader.h"

#include <cstdint>
#include <memory>

namespace comba::tools {

// Images a second in batches of the loader, measured for about `seconds`; bad images count as grey ones.
double loader_rate(const std::shared_ptr<const datasets::ImageSource>& source,
                   const datasets::TransformOptions& transform, int64_t batch_size, int64_t threads,
                   double seconds);

}  // namespace comba::tools
