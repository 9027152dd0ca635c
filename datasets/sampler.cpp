#include "datasets/sampler.h"

#include "vision/base/random.h"

namespace comba::datasets {
namespace {
constexpr int kRounds = 6;
}

Permutation::Permutation(int64_t size, uint64_t seed, uint64_t epoch)
    : size_(size),
      half_bits_(1),
      key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
      epoch_low_(static_cast<uint32_t>(epoch)),
      epoch_high_(static_cast<uint32_t>(epoch >> 32) ^ static_cast<uint32_t>(RandomPurpose::order)
                                                           << 24) {
  while ((uint64_t{1} << (2 * half_bits_)) < static_cast<uint64_t>(size)) {
    ++half_bits_;
  }
}

uint64_t Permutation::encrypt(uint64_t value) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = value >> half_bits_, right = value & mask;
  for (uint32_t round = 0; round < kRounds; ++round) {
    const auto hash =
        philox4x32({static_cast<uint32_t>(right), epoch_low_, epoch_high_, round}, key_);
    const uint64_t mixed = left ^ (hash[0] & mask);
    left = right;
    right = mixed;
  }
  return left << half_bits_ | right;
}

int64_t Permutation::operator[](int64_t position) const {
  uint64_t value = static_cast<uint64_t>(position);
  do {
    value = encrypt(value);
  } while (value >= static_cast<uint64_t>(size_));
  return static_cast<int64_t>(value);
}

}  // namespace comba::datasets
