// Counter-based random numbers: every draw is a pure function of its key, so threads, ranks and timing
// cannot change it. Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
#pragma once

#include <array>
#include <cstdint>

namespace comba {

// What a stream of draws is for; part of the key, so that adding draws to one purpose moves no other.
enum class RandomPurpose : uint32_t {
  order = 1,
  crop = 2,
  augment = 3,
  erase = 4,
  mix = 5,
  initialise = 6,
  drop = 7,
  synthesise = 8,
  pair = 9,
  erase_noise = 10
};

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// A sequence of draws keyed by (seed, epoch, sample index, purpose).
class RandomStream {
 public:
  RandomStream(uint64_t seed, uint64_t epoch, uint64_t index, RandomPurpose purpose);
  uint32_t next();           // uniform 32 bits
  void seek(uint64_t draw);  // next() gives this one, counted from 0, below 2^34
  // For others who make the same bits: two words of Philox's key, four of the counter of the first block of four draws.
  // Of the draws that follow only the first of these four words, a count of blocks, differs.
  std::array<uint32_t, 6> philox() const {
    return {key_[0], key_[1], 0, counter_[1], counter_[2], counter_[3]};
  }
  double uniform();                         // [0, 1)
  double uniform(double low, double high);  // [low, high)
  int64_t below(int64_t bound);             // 0 .. bound-1, unbiased
  double normal();                          // mean 0, standard deviation 1

 private:
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> counter_;
  std::array<uint32_t, 4> block_{};
  int used_ = 4;
};

}  // namespace comba
