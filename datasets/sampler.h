// A keyed permutation of [0, N) with O(1) access to any position: no shuffled array, resume by cursor.
#pragma once

#include <array>
#include <cstdint>

namespace comba::datasets {

// A balanced Feistel network over the smallest even-bit domain that holds N, walked along its cycles until the
// value falls inside (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002). The round function
// is Philox of vision/base/random.h, keyed by (seed, epoch).
class Permutation {
 public:
  Permutation(int64_t size, uint64_t seed, uint64_t epoch);
  int64_t operator[](int64_t position) const;  // 0 <= position < size

 private:
  uint64_t encrypt(uint64_t value) const;
  int64_t size_;
  int half_bits_;
  std::array<uint32_t, 2> key_;
  uint32_t epoch_low_, epoch_high_;
};

}  // namespace comba::datasets
