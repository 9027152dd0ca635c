#include "tracking/tracker.h"

#include "vision/base/error.h"
#include "vision/base/stopwatch.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

namespace comba::tracking {
namespace {

constexpr int64_t kBands = 4;
constexpr double kMargin = 10;  // px of a box that stay in the image

// Nothing if the box has no area.
std::optional<datasets::Image> template_of(const datasets::Image& frame, const Box& box,
                                           const CropOptions& o) {
  const auto window = crop_window(box, o.template_factor);
  if (!window) {
    return std::nullopt;
  }
  const auto side = static_cast<int>(o.template_size);
  datasets::Image crop = crop_image(frame, *window, side);
  fade_outside(crop, box_in_crop(box, *window, side), o.template_context);
  return crop;
}

}  // namespace

Tracker::Tracker(const TrackerBundle& bundle, const c10::Device& device,
                 const TrackerOptions& options)
    : config_(bundle.config), options_(options), runner_(bundle, device) {}

int Tracker::add(const datasets::Image& frame, const Box& box) {
  const auto first = template_of(frame, box, config_.data.crops);
  if (!first || frame.channels != 3 || box.x >= frame.width || box.y >= frame.height ||
      box.x + box.w <= 0 || box.y + box.h <= 0) {
    throw UsageError(
        fmt::format("tracking: the box {},{},{},{} (left, top, width, height) has no area inside "
                    "the frame of {} x {} pixels",
                    box.x, box.y, box.w, box.h, frame.width, frame.height));
  }
  State state;
  state.templates.assign(static_cast<size_t>(config_.network.templates), *first);
  states_.push_back(std::move(state));
  objects_.push_back({next_id_, box, 1.0, false});
  templates_changed_ = true;
  return next_id_++;
}

void Tracker::remove(int id) {
  const auto found = std::find_if(objects_.begin(), objects_.end(),
                                  [id](const TrackedObject& o) { return o.id == id; });
  if (found != objects_.end()) {
    states_.erase(states_.begin() + (found - objects_.begin()));
    objects_.erase(found);
    templates_changed_ = true;
  }
}

void Tracker::clear() {
  objects_.clear();
  states_.clear();
}

void Tracker::send_templates() {
  const int64_t side = config_.network.template_size, count = config_.network.templates;
  at::Tensor pixels = at::empty({static_cast<int64_t>(states_.size()), count, side, side, 3},
                                at::TensorOptions().dtype(at::kByte));
  uint8_t* to = pixels.mutable_data_ptr<uint8_t>();
  for (const State& state : states_) {
    for (const datasets::Image& image : state.templates) {
      std::memcpy(to, image.pixels.data(), image.pixels.size());
      to += image.pixels.size();
    }
  }
  runner_.set_templates(pixels);
  templates_changed_ = false;
}

const std::vector<TrackedObject>& Tracker::update(const datasets::Image& frame) {
  COMBA_CHECK(frame.channels == 3, "tracking: expected a colour frame, got {} channels",
              frame.channels);
  times_ = {};
  if (objects_.empty()) {
    return objects_;
  }
  if (templates_changed_) {
    send_templates();
  }
  Stopwatch watch;
  const int64_t side = config_.network.backbone.image_size;
  at::Tensor pixels = runner_.search_pixels();
  uint8_t* const crops = pixels.mutable_data_ptr<uint8_t>();
  std::vector<CropWindow> windows;
  for (size_t n = 0; n < objects_.size(); ++n) {
    const auto window =
        crop_window(objects_[n].box, config_.data.crops.search_factor * states_[n].widening);
    COMBA_CHECK(window.has_value(), "tracking: object {} has lost its box", objects_[n].id);
    windows.push_back(*window);
  }
  // In bands of rows, so that one object too has work for several cores.
  at::parallel_for(
      0, static_cast<int64_t>(windows.size()) * kBands, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t n = i / kBands, band = i % kBands;
          crop_rows(frame, windows[static_cast<size_t>(n)], static_cast<int>(side),
                    static_cast<int>(side * band / kBands),
                    static_cast<int>(side * (band + 1) / kBands), crops + n * side * side * 3);
        }
      });
  times_.crop = watch.seconds();
  watch.restart();
  const std::vector<Answer> answers = runner_.run();
  times_.network = watch.seconds();
  for (size_t n = 0; n < objects_.size(); ++n) {
    take(objects_[n], states_[n], answers[n], windows[n], frame);
  }
  return objects_;
}

void Tracker::take(TrackedObject& object, State& state, const Answer& answer,
                   const CropWindow& window, const datasets::Image& frame) {
  object.score = answer.score;
  object.lost = !(answer.score >= options_.lost_below);  // NaN is lost
  if (object.lost) {
    state.widening = std::min(state.widening * options_.widen, options_.widest);
    return;
  }
  state.widening = 1;
  const auto side = static_cast<int>(config_.network.backbone.image_size);
  const Box in_crop{(answer.center_x - 0.5 * answer.width) * side,
                    (answer.center_y - 0.5 * answer.height) * side, answer.width * side,
                    answer.height * side};
  object.box = clip_box(box_from_crop(in_crop, window, side), frame.width, frame.height, kMargin);
  if (options_.update_every > 0 && state.templates.size() > 1) {
    templates_changed_ = renew_template(object, state, frame) || templates_changed_;
  }
}

bool Tracker::renew_template(TrackedObject& object, State& state, const datasets::Image& frame) {
  if (object.score >= options_.update_above && object.score > state.best_score) {
    if (auto crop = template_of(frame, object.box, config_.data.crops)) {
      state.best = std::move(*crop);
      state.best_score = object.score;
    }
  }
  if (++state.age % options_.update_every != 0 || state.best_score == 0) {
    return false;
  }
  state.templates[1] = std::move(state.best);
  state.best_score = 0;
  return true;
}

}  // namespace comba::tracking
