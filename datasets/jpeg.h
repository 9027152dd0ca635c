// The JPEG half of decode.h.
#pragma once

#include "datasets/decode.h"

namespace comba::datasets {

// See decode_part().
DecodedPart decode_jpeg_part(std::span<const uint8_t> bytes, int channels, const std::string& name,
                             const BoxChoice& choose, int least_side);
Image decode_jpeg(std::span<const uint8_t> bytes, int channels, const std::string& name);

}  // namespace comba::datasets
