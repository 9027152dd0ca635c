#include "vision/base/random.h"

#include <cmath>
#include <numbers>

namespace comba {

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  constexpr uint32_t kMultiplier0 = 0xD2511F53u, kMultiplier1 = 0xCD9E8D57u;
  constexpr uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{kMultiplier0} * counter[0];
    const uint64_t product1 = uint64_t{kMultiplier1} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

RandomStream::RandomStream(uint64_t seed, uint64_t epoch, uint64_t index, RandomPurpose purpose)
    : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)} {
  // The key is (seed) hashed with (epoch, purpose); the counter holds the index and the block number, so
  // that streams of different samples never overlap.
  const auto mixed = philox4x32({static_cast<uint32_t>(epoch), static_cast<uint32_t>(epoch >> 32),
                                 static_cast<uint32_t>(purpose), 0u},
                                key_);
  key_ = {mixed[0], mixed[1]};
  counter_ = {0u, mixed[2], static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32)};
}

uint32_t RandomStream::next() {
  if (used_ == 4) {
    block_ = philox4x32(counter_, key_);
    ++counter_[0];
    used_ = 0;
  }
  return block_[used_++];
}

void RandomStream::seek(uint64_t draw) {
  counter_[0] = static_cast<uint32_t>(draw / 4);
  block_ = philox4x32(counter_, key_);
  ++counter_[0];
  used_ = static_cast<int>(draw % 4);
}

double RandomStream::uniform() {
  const uint64_t high = next(), low = next();
  return static_cast<double>((high << 32 | low) >> 11) * 0x1p-53;
}

double RandomStream::uniform(double low, double high) { return low + (high - low) * uniform(); }

int64_t RandomStream::below(int64_t bound) {
  const uint64_t range = static_cast<uint64_t>(bound);
  const uint64_t limit =
      -range % range;  // 2^64 mod range: draws below it would favour small results
  for (;;) {
    const uint64_t high = next(), low = next();
    const uint64_t draw = high << 32 | low;
    if (draw >= limit) {
      return static_cast<int64_t>(draw % range);
    }
  }
}

double RandomStream::normal() {
  const double radius = std::sqrt(-2.0 * std::log1p(-uniform()));
  return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

}  // namespace comba
