// One element of a network's input, see normalise_images.h.
#pragma once

#include "kernels/image/normalise_plan.h"

namespace comba::kernels::image {

// Random bits number `draw` of the Philox4x32-10 stream with this key and counter (Salmon et al., SC 2011); the counter's
// first word counts blocks of four.
COMBA_HOST_DEVICE inline uint32_t random_bits(const uint32_t* philox, uint32_t draw) {
  uint32_t key[2] = {philox[0], philox[1]};
  uint32_t counter[4] = {philox[2] + draw / 4, philox[3], philox[4], philox[5]};
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter[2];
    const uint32_t next[4] = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
                              static_cast<uint32_t>(product1),
                              static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
                              static_cast<uint32_t>(product0)};
    for (int i = 0; i < 4; ++i) {
      counter[i] = next[i];
    }
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  const uint32_t place = draw % 4;
  return place < 2 ? (place == 0 ? counter[0] : counter[1])
                   : (place == 2 ? counter[2] : counter[3]);
}

COMBA_HOST_DEVICE inline float noise_at(const NormaliseProblem& p, const Finish& f, uint32_t draw) {
  return p.noise[random_bits(f.philox, draw) >> 20];
}

// Normalised, and what fills the last box that holds it.
COMBA_HOST_DEVICE inline float erased(const NormaliseProblem& p, int image, int c, int y, int x) {
  const Finish& f = p.finish[image];
  for (int box = f.boxes - 1; box >= 0; --box) {
    if (p.boxes[f.first_box + box].holds(y, x)) {
      switch (p.mode) {
        case EraseMode::pixel:
          return noise_at(p, f, (static_cast<uint32_t>(c) * p.size + y) * p.size + x);
        case EraseMode::colour:
          return noise_at(p, f, static_cast<uint32_t>(box) * p.channels + c);
        default:
          return 0.f;
      }
    }
  }
  const int64_t at = ((int64_t{image} * p.size + y) * p.size + x) * p.channels + c;
  return static_cast<float>(p.pixels[at]) * p.scale[c] + p.shift[c];
}

COMBA_HOST_DEVICE inline float finished(const NormaliseProblem& p, int image, int c, int y, int x) {
  const float value = erased(p, image, c, y, x);
  if (!p.mixed) {
    return value;
  }
  const Finish& f = p.finish[image];
  const bool cut = f.cut.height > 0 && f.cut.width > 0;
  const float own = !cut ? f.share : f.cut.holds(y, x) ? 0.f : 1.f;
  return value * own + erased(p, f.partner, c, y, x) * (1.f - own);
}

}  // namespace comba::kernels::image
