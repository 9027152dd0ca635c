// The JPEG half of decode.h.
#pragma once

#include "datasets/image.h"

namespace comba::datasets {

Image decode_jpeg(std::span<const uint8_t> bytes, int channels, const std::string& name);

}  // namespace comba::datasets
