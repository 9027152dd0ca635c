// Mixup and CutMix (timm 1.0.31, data/mixup.py): an image of a batch and its partner become one, and so do their labels.
//
// What is mixed is a function of (seed, epoch, batch number) alone. The partner is the image at the mirrored place of a group
// of 64, so that ranks can share a batch out in multiples of 64 and mix the same pairs.
#pragma once

#include "datasets/image.h"

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::classify {

constexpr int64_t kMixGroup = 64;

struct MixOptions {
  double mixup = 0.0,
         cutmix = 0.0;         // of Beta(a, a), from which the share of an image is drawn; 0: never
  double probability = 1.0;    // that a batch (or image) is mixed at all
  double cutmix_share = 0.5;   // of CutMix where both are on
  std::string mode = "batch";  // one draw for a batch, or for every "image"
  int64_t off_epoch = 0;       // from this epoch on nothing is mixed; 0: always

  bool on(int64_t epoch) const {
    return (mixup > 0 || cutmix > 0) && (off_epoch == 0 || epoch < off_epoch);
  }
};

// Of one image. Its own share, and the box that the partner's pixels fill (CutMix; empty: all are blended).
struct Mix {
  double share = 1.0;
  datasets::ImageBox box;
  bool cut() const { return box.height > 0 && box.width > 0; }
};

// For `count` images of side x side px. Where a batch is shared out, `count` is of the whole batch, and a share takes its
// part of what is drawn.
std::vector<Mix> draw_mixes(const MixOptions& options, int64_t count, int64_t side, uint64_t seed,
                            int64_t epoch, int64_t batch);

// The place of the image that the one at `place` is mixed with: mirrored in its group, which may be short at the end.
int64_t mix_partner(int64_t place, int64_t count);

// images [B, C, S, S] -> the same, mixed.
at::Tensor mix_images(const at::Tensor& images, const std::vector<Mix>& mixes);

// labels [B] int64 -> [B, classes] fp32 probabilities: 1 - smoothing on the label, the rest on all classes alike, and mixed
// unless `mixes` is empty.
at::Tensor mix_labels(const at::Tensor& labels, const std::vector<Mix>& mixes, int64_t classes,
                      double smoothing);

}  // namespace comba::classify
