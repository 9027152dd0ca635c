// LaSOT's scores, by each of the three programs that people publish with; they disagree on absent frames, on invalid boxes
// and on what normalised precision is. Read at LaSOT_Evaluation_Toolkit 95bf38a, pytracking 7eb9e74, got-10k/toolkit 956e728.
//
//                         lasot_matlab             pytracking               got10k
//   absent frames         fail, counted            fail, counted            as any other
//   visible, truth w/h<=0 miss; hit of precision   miss; hit of Pnorm       IoU 0, large errors
//   invalid prediction    holds the one before     NaN, negative: refused;  as it is
//                                                  zero sides: holds
//   sequences of zeros    dropped                  kept                     kept
//   normalised precision  at 0.20                  at 0.20                  mean over 0 .. 0.5
// All: the first prediction is the truth's, predictions beyond the truth are cut, IoU > threshold, error <= threshold.
#pragma once

#include "tracking/benchmark.h"

#include <array>

namespace comba::tracking {

enum class LasotProtocol { lasot_matlab, pytracking, got10k };

// Shares of a sequence's frames at each threshold.
struct LasotCurves {
  std::array<double, 21> success{};     // IoU > 0, 0.05 .. 1
  std::array<double, 51> precision{};   // centre error <= 0 .. 50 px
  std::array<double, 51> normalized{};  // centre error in sizes of the truth <= 0, 0.01 .. 0.5

  double auc() const;
  double op50() const { return success[10]; }
  double op75() const { return success[15]; }
  double precision20() const { return precision[20]; }
  double normalized20() const { return normalized[20]; }
  double normalized_mean() const;
  // What the protocol calls Pnorm.
  double normalized_score(LasotProtocol protocol) const {
    return protocol == LasotProtocol::got10k ? normalized_mean() : normalized20();
  }
};

// Throws Error naming the sequence if the predictions are too few, or are what the protocol refuses.
LasotCurves score_lasot(const Sequence& sequence, std::vector<Box> predictions,
                        LasotProtocol protocol);

// Over sequences, in their order.
LasotCurves mean_curves(const std::vector<LasotCurves>& sequences, LasotProtocol protocol);

}  // namespace comba::tracking
