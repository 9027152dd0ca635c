// comba data: looks at images before hours are spent on them.
#include "datasets/decode.h"
#include "datasets/source.h"
#include "tools/commands.h"
#include "tools/data_verbs.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/parallel.h"
#include "vision/base/progress.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace comba::tools {
namespace {

using datasets::Image;
using datasets::ImageSource;

struct Arguments {
  std::string source, split, json;
  int64_t threads = 0, channels = 3;
};

// Calls body(index) for every image, `threads` at a time, in increasing order of start.
template <typename Body>
void for_each_image(const ImageSource& source, int64_t threads, const std::string& title,
                    const Body& body) {
  Progress progress(title, source.size(), "img");
  std::mutex mutex;
  int64_t done = 0;
  parallel_for(static_cast<size_t>(source.size()), static_cast<int>(threads), [&](size_t index) {
    body(static_cast<int64_t>(index));
    const std::lock_guard lock(mutex);
    progress.update(++done);
  });
  progress.finish();
}

// Sums over all pixels, in integers so that threads cannot change the result.
struct PixelSums {
  std::array<uint64_t, 3> sum{}, square{};
  uint64_t pixels = 0;

  void add(const Image& image) {
    for (size_t i = 0; i < image.pixels.size(); ++i) {
      const uint64_t value = image.pixels[i];
      const size_t c = i % static_cast<size_t>(image.channels);
      sum[c] += value;
      square[c] += value * value;
    }
    pixels += static_cast<uint64_t>(image.height) * static_cast<uint64_t>(image.width);
  }
  double mean(size_t c) const {
    return static_cast<double>(sum[c]) / static_cast<double>(pixels) / 255.0;
  }
  double deviation(size_t c) const {
    const double second =
        static_cast<double>(square[c]) / static_cast<double>(pixels) / (255.0 * 255.0);
    return std::sqrt(std::max(0.0, second - mean(c) * mean(c)));
  }
};

void run_stats(const Arguments& a) {
  const auto source = datasets::open_images(a.source, a.split);
  std::vector<int64_t> counts(source->classes().size());
  for (int64_t i = 0; i < source->size(); ++i) {
    ++counts[static_cast<size_t>(source->label(i))];
  }
  std::mutex mutex;
  PixelSums sums;
  std::map<std::pair<int, int>, int64_t> sizes;
  for_each_image(*source, a.threads, "reading", [&](int64_t index) {
    const auto sample = source->read(index);
    const Image image =
        datasets::decode_image(sample.bytes, static_cast<int>(a.channels), sample.name);
    const std::lock_guard lock(mutex);
    sums.add(image);
    ++sizes[{image.width, image.height}];
  });
  nlohmann::ordered_json json{{"images", source->size()}};
  fmt::print("{} images, {} classes, {} different sizes\n", source->size(), counts.size(),
             sizes.size());
  for (size_t c = 0; c < counts.size(); ++c) {
    fmt::print("  {:<24} {}\n", source->classes()[c], counts[c]);
    json["classes"][source->classes()[c]] = counts[c];
  }
  const auto common = std::max_element(
      sizes.begin(), sizes.end(), [](const auto& x, const auto& y) { return x.second < y.second; });
  fmt::print("most frequent size {}x{} ({} images)\n", common->first.first, common->first.second,
             common->second);
  for (size_t c = 0; c < static_cast<size_t>(a.channels); ++c) {
    fmt::print("channel {}: mean {:.4f}, std {:.4f} (pixels scaled to 0..1)\n", c, sums.mean(c),
               sums.deviation(c));
    json["mean"].push_back(sums.mean(c));
    json["std"].push_back(sums.deviation(c));
  }
  if (!a.json.empty()) {
    write_file_atomic(a.json, json.dump(2) + "\n");
  }
}

CLI::App* add_verb(CLI::App& parent, const char* name, const char* help,
                   const std::shared_ptr<Arguments>& a) {
  CLI::App* verb = parent.add_subcommand(name, help);
  add_source(*verb, a->source, a->split, a->threads);
  return verb;
}

}  // namespace

void add_source(CLI::App& verb, std::string& source, std::string& split, int64_t& threads) {
  verb.add_option("SOURCE", source,
                  "A pack, a folder of images, or tar archives: see datasets/README.md")
      ->required();
  verb.add_option("--split", split,
                  "The part of SOURCE with this name: SPLIT.pack, a folder SPLIT, SPLIT.tar or "
                  "SPLIT-*.tar in it");
  verb.add_option("--threads", threads, "Threads; 0: one per core");
}

std::string join_counts(const std::map<std::string, int64_t>& counts) {
  std::vector<std::pair<std::string, int64_t>> sorted(counts.begin(), counts.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  std::string text;
  for (const auto& [what, count] : sorted) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, what);
  }
  return text;
}

void add_data_command(CLI::App& app) {
  CLI::App* data = app.add_subcommand("data", "Packs, checks, measures and shows image data");
  data->require_subcommand(1);
  auto a = std::make_shared<Arguments>();

  add_pack_verb(*data);

  add_check_verb(*data);

  CLI::App* stats =
      add_verb(*data, "stats", "Counts classes and sizes; mean and deviation of each channel", a);
  stats->add_option("--channels", a->channels, "3 colour, 1 grey")->check(CLI::IsMember({1, 3}));
  stats->add_option("--json", a->json, "Also writes the figures to this file");
  stats->footer("Example:\n  comba data stats datasets/samples/mnist5k --split train --channels 1");
  stats->callback([a] { run_stats(*a); });

  add_show_verb(*data);
  add_data_synth_command(*data);
}

}  // namespace comba::tools
