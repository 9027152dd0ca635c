// What every random draw about a training image depends on.
#pragma once

#include "vision/base/random.h"

#include <cstdint>

namespace comba::datasets {

struct SampleKey {
  uint64_t seed = 0;
  int64_t epoch = 0;
  int64_t index = 0;  // in the source, below 2^48
  int64_t view = 0;   // which of its repeats in the epoch, below 2^15

  RandomStream draws(RandomPurpose purpose) const {
    return {seed, static_cast<uint64_t>(epoch), static_cast<uint64_t>(index | view << 48), purpose};
  }
};

}  // namespace comba::datasets
