// comba data check: what is wrong with images or videos, and how fast training can read them.
#include "datasets/health.h"
#include "datasets/image_error.h"
#include "tools/data_verbs.h"
#include "tools/loader_rate.h"
#include "tracking/training_data.h"
#include "tracking/video_problems.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"
#include "vision/base/parallel.h"
#include "vision/base/progress.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace comba::tools {
namespace {

using datasets::ImageHealth;
using datasets::ImageSource;

struct CheckArguments {
  std::string source, folder, split, json;
  int64_t threads = 0, count = 2000;
  double seconds = 2;
  bool all = false;
};

constexpr const char* kAugment = "rand-m9-mstd0.5-inc1";  // of DeiT's recipe

// Images a second of the training pipeline on this machine.
struct Rates {
  int64_t threads = 0;
  double plain = 0, augmented = 0;  // crop and flip; with RandAugment
};

// Videos, in runs: a run decodes an image that several of them share but once.
void run_check_videos(const CheckArguments& a, const std::string& specification) {
  constexpr size_t kRun = 16;
  const auto videos = tracking::list_videos(specification);
  // Long runs where there are very many (COCO's objects), else one video at a time.
  const size_t run = std::clamp<size_t>(videos.size() / 4096, 1, kRun);
  std::vector<tracking::VideoProblems> found((videos.size() + run - 1) / run);
  Progress progress("checking", static_cast<int64_t>(videos.size()), "sequences");
  std::mutex mutex;
  int64_t done = 0;
  parallel_for(found.size(), static_cast<int>(a.threads), [&](size_t n) {
    const size_t count = std::min(run, videos.size() - n * run);
    found[n] = tracking::video_problems(std::span(videos).subspan(n * run, count));
    const std::lock_guard lock(mutex);
    progress.update(done += static_cast<int64_t>(count));
  });
  progress.finish();
  size_t bad = 0, count = 0;
  for (const tracking::VideoProblems& problems : found) {
    bad += problems.videos;
    count += problems.lines.size();
    for (const std::string& line : problems.lines) {
      fmt::print("{}\n", line);
    }
  }
  const std::string place = specification.substr(specification.find(':') + 1);
  fmt::print("{}: {} sequences, {} with problems\n", place, videos.size(), bad);
  COMBA_CHECK(bad == 0, "checking {}: {} problems in {} of {} sequences (listed above)", place,
              count, bad, videos.size());
}

Rates measure(const std::shared_ptr<const ImageSource>& source, const CheckArguments& a) {
  constexpr int64_t kBatch = 128;
  Rates rates;
  rates.threads = a.threads > 0 ? a.threads : std::max(1U, std::thread::hardware_concurrency());
  if (a.seconds > 0) {
    LoaderWork work;
    work.batch_size = kBatch;
    work.threads = rates.threads;
    rates.plain = loader_rate(source, work, a.seconds).images_per_second;
    work.transform.augment = kAugment;
    rates.augmented = loader_rate(source, work, a.seconds).images_per_second;
  }
  return rates;
}

// "under 128: 1.2 %, 256 to 383: 60.0 %", bins that hold something.
std::string describe_sides(const ImageHealth& health) {
  static constexpr int kBounds[] = {0, 64, 128, 224, 256, 384, 512, 1024};
  const auto good = static_cast<double>(health.checked) - static_cast<double>(health.bad.size());
  std::string text;
  for (size_t bin = 0; bin < std::size(kBounds); ++bin) {
    const bool last = bin + 1 == std::size(kBounds);
    const auto begin = health.short_sides.lower_bound(kBounds[bin]);
    const auto end =
        last ? health.short_sides.end() : health.short_sides.lower_bound(kBounds[bin + 1]);
    int64_t count = 0;
    for (auto side = begin; side != end; ++side) {
      count += side->second;
    }
    if (count > 0) {
      const std::string range = last ? fmt::format("{} and more", kBounds[bin])
                                     : fmt::format("{} to {}", kBounds[bin], kBounds[bin + 1] - 1);
      text += fmt::format("{}{}: {:.1f} %", text.empty() ? "" : ", ", range,
                          100 * static_cast<double>(count) / good);
    }
  }
  return text;
}

std::string describe_classes(const ImageSource& source, const ImageHealth& health) {
  std::vector<int64_t> counts = health.per_class;
  const auto fewest = std::min_element(counts.begin(), counts.end()) - counts.begin();
  const auto most = std::max_element(counts.begin(), counts.end()) - counts.begin();
  std::string text = fmt::format("{} ({}) to {} ({}) images", counts[fewest],
                                 source.classes()[fewest], counts[most], source.classes()[most]);
  std::sort(counts.begin(), counts.end());
  text += fmt::format(", median {}", counts[counts.size() / 2]);
  const auto empty = std::count(counts.begin(), counts.end(), 0);
  return empty == 0 ? text : text + fmt::format("; {} classes have none", empty);
}

std::map<std::string, int64_t> causes(const ImageHealth& health) {
  std::map<std::string, int64_t> counts;
  for (const datasets::RejectedImage& image : health.bad) {
    ++counts[describe(image.problem)];
  }
  return counts;
}

void print(const ImageSource& source, const ImageHealth& health, const Rates& rates) {
  const auto line = [](const char* what, const std::string& text) {
    if (!text.empty()) {
      fmt::print("  {:<12} {}\n", what, text);
    }
  };
  const bool sample = health.checked < source.size();
  const auto checked = static_cast<double>(health.checked);
  line("classes", describe_classes(source, health));
  line("short side", describe_sides(health));
  line("files",
       fmt::format("{:.1f} KB on average", static_cast<double>(health.bytes) / checked / 1e3));
  line("unusual", join_counts(health.peculiar));
  if (!health.bad.empty()) {
    line("bad", join_counts(causes(health)));
  } else if (sample) {
    // The rule of three: with none among n, fewer than 3 / n of all, at 95 % confidence.
    line("bad",
         fmt::format("none of those checked: likely fewer than {:.2f} % of all", 300 / checked));
  }
  if (rates.plain > 0) {
    line("training",
         fmt::format("{:.0f} img/s to be expected of {} threads, {:.0f} with RandAugment",
                     rates.plain, rates.threads, rates.augmented));
  }
}

nlohmann::ordered_json to_json(const ImageSource& source, const ImageHealth& health,
                               const Rates& rates) {
  nlohmann::ordered_json json = {
      {"images", source.size()},    {"checked", health.checked},
      {"bytes", health.bytes},      {"classes", nlohmann::ordered_json::object()},
      {"unusual", health.peculiar}, {"bad", causes(health)}};
  for (size_t c = 0; c < health.per_class.size(); ++c) {
    json["classes"][source.classes()[c]] = health.per_class[c];
  }
  for (const auto& [side, count] : health.short_sides) {
    json["short_sides"].push_back({side, count});
  }
  json["threads"] = rates.threads;
  json["images_per_second"] = {{"crop", rates.plain}, {"randaugment", rates.augmented}};
  return json;
}

void run_check(const CheckArguments& a) {
  if (!a.folder.empty() || tracking::names_videos(a.source)) {
    return run_check_videos(a, a.folder.empty() ? a.source : a.source + ":" + a.folder);
  }
  const std::shared_ptr<const ImageSource> source = datasets::open_images(a.source, a.split);
  const int64_t count = a.all ? source->size() : std::min(a.count, source->size());
  Progress progress("checking", count, "img");
  const ImageHealth health = datasets::examine_images(*source, count, static_cast<int>(a.threads),
                                                      [&](int64_t done) { progress.update(done); });
  progress.finish();
  const size_t bad = health.bad.size();
  for (const datasets::RejectedImage& image : health.bad) {
    fmt::print("{}\n", image.reason);
  }
  fmt::print("{}: {} images of {} classes, {} bad{}\n", a.source, source->size(),
             source->classes().size(), bad,
             count < source->size()
                 ? fmt::format(" among the {} checked (--all checks the rest)", count)
                 : "");
  const Rates rates = bad < static_cast<size_t>(count) ? measure(source, a) : Rates();
  print(*source, health, rates);
  if (!a.json.empty()) {
    write_file_atomic(a.json, to_json(*source, health, rates).dump(2) + "\n");
  }
  COMBA_CHECK(bad == 0, "checking {}: {} of {} images are bad (listed above)", a.source, bad,
              count);
}

}  // namespace

void add_check_verb(CLI::App& data) {
  CLI::App* check = data.add_subcommand(
      "check",
      "Names every problem, counts what is unusual, and measures what training can expect");
  const auto a = std::make_shared<CheckArguments>();
  add_source(*check, a->source, a->split, a->threads);
  check->add_option("DIR", a->folder,
                    "the videos' folder, where the first argument is their layout: got10k, lasot, "
                    "trackingnet, coco or video; or pack, and their pack");
  check->add_option("--count", a->count, "Images to decode, spread at random")
      ->check(CLI::Range(1, 1 << 30))
      ->capture_default_str();
  check->add_flag("--all", a->all, "Decodes every image");
  check->add_option("--seconds", a->seconds, "Of each measurement of speed; 0: none")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  check->add_option("--json", a->json, "Also writes the figures of images to this file");
  check->footer(
      "Examples:\n  comba data check datasets/samples/mnist5k --split train --all\n  comba data "
      "check "
      "got10k GOT-10k/val");
  check->callback([a] { run_check(*a); });
}

}  // namespace comba::tools
