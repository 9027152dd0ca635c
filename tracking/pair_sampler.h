// Which frames of which video make a training sample: the "causal" sampling of OSTrack 33b5e12 (lib/train/data/sampler.py).
#pragma once

#include "tracking/training_data.h"
#include "vision/base/random.h"

#include <vector>

namespace comba::tracking {

struct PairDraw {
  const TrainingVideo* video = nullptr;
  std::vector<size_t>
      templates;      // frames; the first is the youngest, the others come from before it
  size_t search = 0;  // a later frame
};

class PairSampler {
 public:
  // A set is drawn in proportion to its ratio, then one of its videos, each as often as any other. `ratios`: one a set.
  PairSampler(std::vector<TrainingSet> sets, std::vector<double> ratios, int templates);
  // Frames whose target is in view, the search frame at most 200 after the template's; more where that finds none. Of a still
  // image always the same.
  PairDraw draw(RandomStream& random) const;
  const std::vector<TrainingSet>& sets() const { return sets_; }

 private:
  const TrainingVideo& draw_video(RandomStream& random) const;

  std::vector<TrainingSet> sets_;
  std::vector<double> ratios_;
  int templates_;
};

}  // namespace comba::tracking
