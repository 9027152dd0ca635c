#include "tracking/training_pair.h"

#include <algorithm>
#include <cmath>

#include <fmt/ranges.h>

namespace comba::tracking {
namespace {

// Rec. 601 luma, as cv::COLOR_RGB2GRAY, in all channels.
void make_grey(datasets::Image& image) {
  for (size_t i = 0; i + 2 < image.pixels.size(); i += 3) {
    uint8_t* const p = image.pixels.data() + i;
    p[0] = p[1] = p[2] = static_cast<uint8_t>(0.299F * p[0] + 0.587F * p[1] + 0.114F * p[2] + 0.5F);
  }
}

void mirror(datasets::Image& image) {
  for (int y = 0; y < image.height; ++y) {
    uint8_t* const row = image.row(y);
    for (int x = 0; x < image.width / 2; ++x) {
      std::swap_ranges(row + x * 3, row + x * 3 + 3, row + (image.width - 1 - x) * 3);
    }
  }
}

void brighten(datasets::Image& image, double factor) {
  std::array<uint8_t, 256> table{};
  for (int i = 0; i < 256; ++i) {
    table[static_cast<size_t>(i)] =
        static_cast<uint8_t>(std::clamp(std::lround(i * factor), 0L, 255L));
  }
  for (uint8_t& pixel : image.pixels) {
    pixel = table[pixel];
  }
}

Box jittered(const Box& box, double center, double scale, RandomStream& random) {
  const double w = box.w * std::exp(random.normal() * scale),
               h = box.h * std::exp(random.normal() * scale);
  const double reach = std::sqrt(w * h) * center;
  const double x = box.x + 0.5 * box.w + reach * (random.uniform() - 0.5);
  const double y = box.y + 0.5 * box.h + reach * (random.uniform() - 0.5);
  return {x - 0.5 * w, y - 0.5 * h, w, h};
}

struct Cut {
  datasets::Image image;
  Box target;  // px of the crop
};

std::optional<Cut> cut(const datasets::Image& image, const Box& target, const Box& around,
                       double factor, int size) {
  const auto window = crop_window(around, factor);
  if (!window || !touches_image(*window, image.width, image.height)) {
    return std::nullopt;
  }
  return Cut{crop_image(image, *window, size), box_in_crop(target, *window, size)};
}

void augment(Cut& cut, const CropOptions& o, RandomStream& random) {
  brighten(cut.image, random.uniform(1 - o.brightness, 1 + o.brightness));
  if (random.uniform() < o.flip) {
    mirror(cut.image);
    cut.target.x = cut.image.width - cut.target.x - cut.target.w;
  }
}

}  // namespace

void declare(ConfigTable& table, CropOptions& o) {
  table.add("data.template_factor", &o.template_factor,
            "side of the template's crop in target sizes", {1, 16});
  table.add("data.search_factor", &o.search_factor, "side of the search crop in target sizes",
            {1, 16});
  table.add("data.template_context", &o.template_context,
            "share of its contrast that the template keeps outside the target's box; 1: all, as "
            "OSTrack; less shows what belongs to the target",
            {0, 1});
  table.add("data.template_center_jitter", &o.template_center_jitter,
            "how far the template's crop may lie from the target, in target sizes", {0, 16});
  table.add("data.template_scale_jitter", &o.template_scale_jitter,
            "deviation of the logarithm of its size", {0, 4});
  table.add("data.search_center_jitter", &o.search_center_jitter, "the same of the search crop",
            {0, 16});
  table.add("data.search_scale_jitter", &o.search_scale_jitter, "the same of its size", {0, 4});
  table.add("data.grey", &o.grey, "probability that a sample loses its colours", {0, 1});
  table.add("data.flip", &o.flip, "probability that a sample is mirrored, and each crop by itself",
            {0, 1});
  table.add("data.brightness", &o.brightness, "crops are multiplied by 1 - this .. 1 + this",
            {0, 1});
}

PairFrames read_frames(const PairDraw& draw) {
  PairFrames frames;
  for (const size_t frame : draw.templates) {
    frames.templates.push_back(draw.video->decode(frame));
  }
  frames.search = draw.video->still ? frames.templates.front() : draw.video->decode(draw.search);
  return frames;
}

std::optional<TrainingPair> make_pair(const PairDraw& draw, PairFrames frames, const CropOptions& o,
                                      RandomStream& random) {
  const bool grey = random.uniform() < o.grey, mirrored = random.uniform() < o.flip;
  const auto prepare = [&](datasets::Image& image, Box box) {
    if (grey) {
      make_grey(image);
    }
    if (mirrored) {
      mirror(image);
      box.x = image.width - box.x - box.w;
    }
    return box;
  };
  TrainingPair pair;
  pair.name =
      fmt::format("{} {} {}", draw.video->name, fmt::join(draw.templates, "+"), draw.search);
  for (size_t n = 0; n < frames.templates.size(); ++n) {
    const Box box = prepare(frames.templates[n], draw.video->truth[draw.templates[n]]);
    auto crop = cut(frames.templates[n], box,
                    jittered(box, o.template_center_jitter, o.template_scale_jitter, random),
                    o.template_factor, static_cast<int>(o.template_size));
    if (!crop) {
      return std::nullopt;
    }
    fade_outside(crop->image, crop->target, o.template_context);
    augment(*crop, o, random);
    pair.templates.push_back(std::move(crop->image));
  }
  const Box box = prepare(frames.search, draw.video->truth[draw.search]);
  auto crop =
      cut(frames.search, box, jittered(box, o.search_center_jitter, o.search_scale_jitter, random),
          o.search_factor, static_cast<int>(o.search_size));
  if (!crop) {
    return std::nullopt;
  }
  augment(*crop, o, random);
  const double side = static_cast<double>(o.search_size);
  pair.search = std::move(crop->image);
  pair.target = {crop->target.x / side, crop->target.y / side, crop->target.w / side,
                 crop->target.h / side};
  return pair;
}

}  // namespace comba::tracking
