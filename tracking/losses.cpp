#include "tracking/losses.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/log.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

namespace comba::tracking {
namespace {

constexpr double kOverlap = 0.7, kLeastScore = 1e-12;

// [B] from width and height in cells.
torch::Tensor gaussian_radius(const torch::Tensor& width, const torch::Tensor& height) {
  const torch::Tensor sum = width + height, area = width * height;
  const auto root = [](const torch::Tensor& b, const torch::Tensor& discriminant) {
    return (b + discriminant.sqrt()) / 2;
  };
  const torch::Tensor r1 = root(sum, sum * sum - 4 * area * ((1 - kOverlap) / (1 + kOverlap)));
  const torch::Tensor b2 = 2 * sum;
  const torch::Tensor r2 = root(b2, b2 * b2 - 16 * (1 - kOverlap) * area);
  const torch::Tensor b3 = -2 * kOverlap * sum;
  const torch::Tensor r3 = root(b3, b3 * b3 - 16 * kOverlap * (kOverlap - 1) * area);
  return at::minimum(at::minimum(r1, r2), r3).clamp_min(0).floor();
}

torch::Tensor corners_of_center(const torch::Tensor& box) {
  const torch::Tensor centre = box.narrow(1, 0, 2), half = box.narrow(1, 2, 2) / 2;
  return at::cat({centre - half, centre + half}, 1);
}
torch::Tensor corners_of_corner(const torch::Tensor& box) {
  const torch::Tensor corner = box.narrow(1, 0, 2);
  return at::cat({corner, corner + box.narrow(1, 2, 2)}, 1);
}

torch::Tensor area(const torch::Tensor& low, const torch::Tensor& high) {
  const torch::Tensor sides = (high - low).clamp_min(0);
  return sides.select(1, 0) * sides.select(1, 1);
}

struct Overlap {
  torch::Tensor shared, together, around;  // areas [B]

  Overlap(const torch::Tensor& a, const torch::Tensor& b) {
    const torch::Tensor a1 = a.narrow(1, 0, 2), a2 = a.narrow(1, 2, 2), b1 = b.narrow(1, 0, 2),
                        b2 = b.narrow(1, 2, 2);
    shared = area(at::maximum(a1, b1), at::minimum(a2, b2));
    together = area(a1, a2) + area(b1, b2) - shared;
    around = area(at::minimum(a1, b1), at::maximum(a2, b2));
  }
  torch::Tensor iou() const { return shared / together.clamp_min(1e-9); }
};

}  // namespace

torch::Tensor center_targets(const torch::Tensor& truth, int64_t cells) {
  const torch::Tensor box = truth * static_cast<double>(cells);
  const torch::Tensor size = box.narrow(1, 2, 2);
  const torch::Tensor centre = (box.narrow(1, 0, 2) + size / 2).round();
  const torch::Tensor radius =
      gaussian_radius(size.select(1, 0), size.select(1, 1)).view({-1, 1, 1});
  const torch::Tensor at = at::arange(cells, truth.options());
  const torch::Tensor dx = at.view({1, 1, -1}) - centre.select(1, 0).view({-1, 1, 1});
  const torch::Tensor dy = at.view({1, -1, 1}) - centre.select(1, 1).view({-1, 1, 1});
  const torch::Tensor sigma = (2 * radius + 1) / 6;
  const torch::Tensor gaussian = at::exp(-(dx * dx + dy * dy) / (2 * sigma * sigma));
  const torch::Tensor near = (dx.abs() <= radius).logical_and(dy.abs() <= radius);
  return at::where(near, gaussian, at::zeros_like(gaussian));
}

torch::Tensor focal_loss(const torch::Tensor& score, const torch::Tensor& target) {
  const torch::Tensor p = score.clamp_min(kLeastScore);
  const torch::Tensor hit = target.eq(1).to(p.scalar_type());
  const torch::Tensor missed = 1 - p;
  const torch::Tensor gained = at::log(p) * missed * missed * hit;
  const torch::Tensor lost = at::log(missed) * p * p * (1 - target).pow(4) * (1 - hit);
  return -(gained.sum() + lost.sum()) / hit.sum().clamp_min(1);
}

torch::Tensor generalized_iou(const torch::Tensor& a, const torch::Tensor& b) {
  const Overlap overlap(a, b);
  return overlap.iou() - (overlap.around - overlap.together) / overlap.around.clamp_min(1e-9);
}

TrackingLoss tracking_loss(const CenterMaps& maps, const torch::Tensor& truth,
                           const TrackingLossWeights& weights) {
  const torch::Tensor predicted = corners_of_center(decode(maps).boxes);
  const torch::Tensor wanted = corners_of_corner(truth).clamp(0, 1);
  TrackingLoss loss;
  const torch::Tensor target = center_targets(truth, maps.score.size(-1));
  loss.focal = focal_loss(maps.score.squeeze(1), target);
  loss.hits = target.eq(1).sum();
  loss.giou = (1 - generalized_iou(predicted, wanted)).mean();
  loss.l1 = (predicted - wanted).abs().mean();
  loss.total = weights.focal * loss.focal + weights.giou * loss.giou + weights.l1 * loss.l1;
  loss.iou = Overlap(predicted.detach(), wanted).iou().mean();
  return loss;
}

}  // namespace comba::tracking
