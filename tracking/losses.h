// What a tracker is trained with (OSTrack 33b5e12): a focal loss over the centre map, and GIoU and L1 of the box that the
// highest cell gives.
#pragma once

#include "tracking/head.h"

namespace comba::tracking {

// truth: [B, 4] left, top, width, height in search images -> [B, F, F]: a Gaussian around the centre's cell, exactly 1
// there. Its radius is CornerNet's, by the formula that everybody uses though two of its three roots are not what the paper
// derives, with overlap 0.7.
torch::Tensor center_targets(const torch::Tensor& truth, int64_t cells);

// score, target: [B, F, F]. CenterNet's, alpha 2, beta 4; over the number of cells whose target is 1.
torch::Tensor focal_loss(const torch::Tensor& score, const torch::Tensor& target);

// Boxes as x1, y1, x2, y2 [B, 4] -> [B] in [-1, 1].
torch::Tensor generalized_iou(const torch::Tensor& a, const torch::Tensor& b);

struct TrackingLoss {
  torch::Tensor total, focal, giou, l1;  // scalars
  torch::Tensor iou;                     // mean, no gradient
  torch::Tensor hits;                    // how many targets the focal loss is a mean over
};
struct TrackingLossWeights {
  double focal = 1, giou = 2, l1 = 5;
};
// truth as for center_targets(), cut to the search image for the box losses.
TrackingLoss tracking_loss(const CenterMaps& maps, const torch::Tensor& truth,
                           const TrackingLossWeights& weights = {});

}  // namespace comba::tracking
