// A training sample: crops around the target with jitter and augmentation, and where the target is in the search crop.
// As OSTrack 33b5e12 (lib/train/data/processing.py, lib/train/base_functions.py) but for the half-pixel by which its training
// crops and its tracker differ: ours agree (crop.h).
#pragma once

#include "tracking/crop.h"
#include "tracking/pair_sampler.h"
#include "vision/base/config.h"

#include <array>
#include <optional>
#include <span>

namespace comba::tracking {

struct CropOptions {
  int64_t template_size = 128, search_size = 256;  // px; the model's
  double template_factor = 2.0,
         search_factor = 4.0;     // side of the crop in target sizes (root of the area)
  double template_context = 1.0;  // share of its contrast that the template keeps around the target
  double template_center_jitter = 0.0, template_scale_jitter = 0.0;
  double search_center_jitter = 3.0, search_scale_jitter = 0.25;
  double grey = 0.05;       // probability that all of a sample's images lose their colours
  double flip = 0.5;        // that all are mirrored, and then that each is by itself
  double brightness = 0.2;  // each is multiplied by 1 - brightness .. 1 + brightness
};

// Registers the keys under "data." in the table, but for the sizes.
void declare(ConfigTable& table, CropOptions& options);

struct TrainingPair {
  std::vector<datasets::Image> templates;  // [template_size, template_size, 3]
  datasets::Image search;
  Box target;        // in shares of the search crop; may reach beyond it
  std::string name;  // of video and frames, for messages
};

// Frames of a draw, decoded to RGB.
struct PairFrames {
  std::vector<datasets::Image> templates;
  datasets::Image search;
};
PairFrames read_frames(const PairDraw& draw);

// Nothing if a crop would be empty or lie outside of its image; then another sample has to be drawn.
std::optional<TrainingPair> make_pair(const PairDraw& draw, PairFrames frames,
                                      const CropOptions& options, RandomStream& random);

}  // namespace comba::tracking
