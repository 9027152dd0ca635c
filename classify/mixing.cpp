#include "classify/mixing.h"

#include "vision/base/error.h"
#include "vision/base/random.h"

#include <algorithm>
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>

namespace comba::classify {
namespace {

// Marsaglia and Tsang, "A simple method for generating gamma variables" (2000); below one by their power of a uniform draw.
double draw_gamma(double shape, RandomStream& random) {
  if (shape < 1.0) {
    const double power = std::pow(1.0 - random.uniform(), 1.0 / shape);
    return draw_gamma(shape + 1.0, random) * power;
  }
  const double d = shape - 1.0 / 3.0, c = 1.0 / std::sqrt(9.0 * d);
  for (;;) {
    const double x = random.normal(), root = 1.0 + c * x;
    if (root <= 0) {
      continue;
    }
    const double v = root * root * root;
    if (std::log1p(-random.uniform()) < 0.5 * x * x + d - d * v + d * std::log(v)) {
      return d * v;
    }
  }
}

double draw_beta(double a, RandomStream& random) {
  const double x = draw_gamma(a, random), y = draw_gamma(a, random);
  return x + y > 0 ? x / (x + y) : 0.5;
}

// A box of 1 - share of the area about a uniform centre, cut off at the image's edges: the share grows by what is outside.
Mix cut_mix(double share, int64_t side, RandomStream& random) {
  const auto half = static_cast<int64_t>(static_cast<double>(side) * std::sqrt(1.0 - share)) / 2;
  const int64_t y = random.below(side), x = random.below(side);
  const auto clipped = [&](int64_t at) {
    return static_cast<int>(std::clamp<int64_t>(at, 0, side));
  };
  const int top = clipped(y - half), left = clipped(x - half);
  const datasets::ImageBox box{top, left, clipped(y + half) - top, clipped(x + half) - left};
  const double area = static_cast<double>(box.height) * box.width;
  return {1.0 - area / static_cast<double>(side * side), box};
}

Mix draw_mix(const MixOptions& o, int64_t side, RandomStream& random) {
  const bool mixed = random.uniform() < o.probability;
  const double cut_share = o.mixup <= 0 ? 1.0 : o.cutmix <= 0 ? 0.0 : o.cutmix_share;
  const bool cut = random.uniform() < cut_share;
  const double share = draw_beta(cut ? o.cutmix : o.mixup, random);
  if (!mixed) {
    return {};
  }
  return cut ? cut_mix(share, side, random) : Mix{share, {}};
}

at::Tensor partners(int64_t count, const c10::Device& device) {
  std::vector<int64_t> places;
  for (int64_t i = 0; i < count; ++i) {
    places.push_back(mix_partner(i, count));
  }
  return at::tensor(places).to(device);
}

// [B, 1, 1, 1] of what `get` says of each image.
template <typename Get>
at::Tensor column(const std::vector<Mix>& mixes, const c10::Device& device, const Get& get) {
  std::vector<float> values;
  std::transform(mixes.begin(), mixes.end(), std::back_inserter(values), get);
  return at::tensor(values).to(device).view({-1, 1, 1, 1});
}

void check_count(const at::Tensor& mixed, const std::vector<Mix>& mixes, const char* what) {
  COMBA_CHECK(mixed.size(0) == static_cast<int64_t>(mixes.size()),
              "mixing {} {}: got what becomes of {}, expected it of each", mixed.size(0), what,
              mixes.size());
}

}  // namespace

std::vector<Mix> draw_mixes(const MixOptions& options, int64_t count, int64_t side, uint64_t seed,
                            int64_t epoch, int64_t batch) {
  RandomStream random(seed, static_cast<uint64_t>(epoch), static_cast<uint64_t>(batch),
                      RandomPurpose::mix);
  std::vector<Mix> mixes(static_cast<size_t>(count), draw_mix(options, side, random));
  if (options.mode == "image") {
    for (size_t i = 1; i < mixes.size(); ++i) {
      mixes[i] = draw_mix(options, side, random);
    }
  }
  return mixes;
}

int64_t mix_partner(int64_t place, int64_t count) {
  const int64_t first = place / kMixGroup * kMixGroup;
  return first + std::min(first + kMixGroup, count) - 1 - place;
}

at::Tensor mix_images(const at::Tensor& images, const std::vector<Mix>& mixes) {
  check_count(images, mixes, "images");
  const auto device = images.device();
  const auto of = [&](const auto& get) { return column(mixes, device, get); };
  const at::Tensor y = at::arange(images.size(2), images.options()).view({1, 1, -1, 1});
  const at::Tensor x = at::arange(images.size(3), images.options()).view({1, 1, 1, -1});
  const at::Tensor top = of([](const Mix& m) { return static_cast<float>(m.box.y); });
  const at::Tensor left = of([](const Mix& m) { return static_cast<float>(m.box.x); });
  const at::Tensor height = of([](const Mix& m) { return static_cast<float>(m.box.height); });
  const at::Tensor width = of([](const Mix& m) { return static_cast<float>(m.box.width); });
  const at::Tensor inside =
      (y >= top).logical_and(y < top + height).logical_and(x >= left).logical_and(x < left + width);
  // Where a box is cut out an image counts fully outside and not at all inside.
  const at::Tensor blend =
      of([](const Mix& m) { return m.cut() ? 1.F : static_cast<float>(m.share); });
  const at::Tensor own = at::where(inside, at::full({}, 0.F, blend.options()), blend);
  const at::Tensor others = images.index_select(0, partners(images.size(0), device));
  return images * own + others * (1.F - own);
}

at::Tensor mix_labels(const at::Tensor& labels, const std::vector<Mix>& mixes, int64_t classes,
                      double smoothing) {
  const double spread = smoothing / static_cast<double>(classes);
  at::Tensor target = at::full({labels.size(0), classes}, spread,
                               at::TensorOptions().dtype(at::kFloat).device(labels.device()));
  target.scatter_(1, labels.unsqueeze(1), 1.0 - smoothing + spread);
  if (mixes.empty()) {
    return target;
  }
  check_count(labels, mixes, "labels");
  const at::Tensor own = column(mixes, labels.device(), [](const Mix& m) {
                           return static_cast<float>(m.share);
                         }).view({-1, 1});
  return target * own +
         target.index_select(0, partners(labels.size(0), labels.device())) * (1.F - own);
}

}  // namespace comba::classify
