#include "tracking/pair_sampler.h"

#include "vision/base/error.h"

#include <algorithm>
#include <numeric>
#include <optional>

namespace comba::tracking {
namespace {

constexpr int64_t kMostGap = 200, kMoreGap = 5;  // frames

// One of the usable frames of [first, end), cut to the video; nothing if there is none.
std::optional<size_t> draw_frame(const TrainingVideo& video, int64_t first, int64_t end,
                                 RandomStream& random) {
  std::vector<size_t> usable;
  const auto length = static_cast<int64_t>(video.usable.size());
  for (int64_t i = std::max<int64_t>(first, 0); i < std::min(end, length); ++i) {
    if (video.usable[static_cast<size_t>(i)] != 0) {
      usable.push_back(static_cast<size_t>(i));
    }
  }
  if (usable.empty()) {
    return std::nullopt;
  }
  return usable[static_cast<size_t>(random.below(static_cast<int64_t>(usable.size())))];
}

}  // namespace

PairSampler::PairSampler(std::vector<TrainingSet> sets, std::vector<double> ratios, int templates)
    : sets_(std::move(sets)), ratios_(std::move(ratios)), templates_(templates) {
  COMBA_CHECK(!sets_.empty() && ratios_.size() == sets_.size(),
              "sampling training pairs: expected a ratio for each of {} sets, got {}", sets_.size(),
              ratios_.size());
}

const TrainingVideo& PairSampler::draw_video(RandomStream& random) const {
  double at = random.uniform() * std::accumulate(ratios_.begin(), ratios_.end(), 0.0);
  size_t set = 0;
  while (set + 1 < sets_.size() && at >= ratios_[set]) {
    at -= ratios_[set++];
  }
  const std::vector<TrainingVideo>& videos = sets_[set].videos;
  return videos[static_cast<size_t>(random.below(static_cast<int64_t>(videos.size())))];
}

PairDraw PairSampler::draw(RandomStream& random) const {
  const TrainingVideo& video = draw_video(random);
  if (video.still) {
    return {&video, std::vector<size_t>(static_cast<size_t>(templates_), 0), 0};
  }
  const auto length = static_cast<int64_t>(video.usable.size());
  for (int64_t more = 0;; more += kMoreGap) {
    PairDraw draw{&video, {}, 0};
    const auto base = draw_frame(video, templates_ - 1, length - 1, random);
    // The only usable frame may be the last: then it is its own template.
    const auto at = static_cast<int64_t>(base.value_or(0));
    draw.templates.push_back(base.value_or(0));
    bool whole = base.has_value();
    for (int n = 1; n < templates_; ++n) {
      const auto before = draw_frame(video, at - kMostGap - more, at, random);
      whole = whole && before.has_value();
      draw.templates.push_back(before.value_or(0));
    }
    const auto search = draw_frame(video, at + 1, at + kMostGap + more, random);
    if (whole && search.has_value()) {
      draw.search = *search;
      return draw;
    }
    COMBA_CHECK(more < length + kMostGap,
                "sampling training pairs: {} has no {} frames with the target in view, one after "
                "the other",
                video.name, templates_ + 1);
  }
}

}  // namespace comba::tracking
