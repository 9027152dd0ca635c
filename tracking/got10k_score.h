// GOT-10k's scores on annotated splits (ExperimentGOT10k.report of got-10k/toolkit 956e728): the first frame and frames with
// cover 0 are left out, both boxes are clipped to the image as the toolkit does it (a box that begins left of the image is
// moved, not cut), and frames of all sequences are pooled.
#pragma once

#include "tracking/benchmark.h"

#include <array>

namespace comba::tracking {

// IoU of the frames that count; predictions of several repetitions follow one another. Throws Error naming the sequence if
// there is not one box a frame.
std::vector<double> got10k_overlaps(const Sequence& sequence, const std::vector<Box>& predictions);

struct Got10kScore {
  double ao = 0, sr50 = 0, sr75 = 0;  // mean IoU; shares above 0.5 and 0.75
  std::array<double, 101> success{};  // IoU > 0, 0.01 .. 1
};
Got10kScore score_overlaps(const std::vector<double>& overlaps);

// The paper's class-balanced mean (no toolkit has it): the mean over object classes of the mean over their sequences' AO.
double class_balanced_ao(const std::vector<Sequence>& sequences, const std::vector<double>& ao);

}  // namespace comba::tracking
