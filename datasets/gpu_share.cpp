#include "datasets/gpu_share.h"

#include "vision/base/random.h"

namespace comba::datasets {

bool in_gpu_share(int64_t index, double share) {
  const auto position = static_cast<uint64_t>(index);
  const auto hash = philox4x32(
      {static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0, 0}, {0, 0});
  return static_cast<double>(hash[0]) < share * 4294967296.0;
}

}  // namespace comba::datasets
