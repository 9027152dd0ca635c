// comba data pack: images or videos into a few files.
#include "datasets/pack_images.h"
#include "tools/commands.h"
#include "tools/data_verbs.h"
#include "tracking/training_data.h"
#include "tracking/video_pack.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"
#include "vision/base/progress.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

namespace comba::tools {
namespace {

struct PackArguments {
  std::string source, split, out, on_bad;
  datasets::PackOptions options;
};

std::string report_path(const PackArguments& a) { return a.out + ".rejected.txt"; }

// The whole list goes into a file, its beginning on the screen.
void report_rejected(const std::vector<std::string>& rejected, const char* what,
                     const std::string& path) {
  if (rejected.empty()) {
    std::filesystem::remove(path);  // of an earlier run
    return;
  }
  for (size_t i = 0; i < std::min<size_t>(rejected.size(), 10); ++i) {
    log::warning("rejected: {}", rejected[i]);
  }
  std::string text;
  for (const std::string& line : rejected) {
    text += line + "\n";
  }
  write_file_atomic(path, text);
  log::warning("{} {} rejected; the whole list is in {}", rejected.size(), what, path);
}

// Lines of cause, path and reason, tabs between them; returns the counts by cause.
std::string report_rejected(const datasets::PackReport& report, const PackArguments& a) {
  std::vector<std::string> lines;
  std::map<std::string, int64_t> counts;
  for (const datasets::RejectedImage& image : report.rejected) {
    const std::string cause = describe(image.problem);
    lines.push_back(fmt::format("{}\t{}\t{}", cause, image.path, image.reason));
    ++counts[cause];
  }
  report_rejected(lines, "images", report_path(a));
  return join_counts(counts);
}

void pack_images(const PackArguments& a) {
  const auto source = datasets::open_images(a.source, a.split);
  datasets::PackOptions options = a.options;
  options.skip_bad = a.on_bad == "skip";
  std::optional<Progress> progress;
  const datasets::PackReport report =
      datasets::pack_images(*source, a.out, options, [&](int64_t done, int64_t bad) {
        if (!progress) {
          progress.emplace("packing", source->size(), "img", done);
          if (done > 0) {
            log::info("{}: going on behind {} of {} images", a.out, done, source->size());
          }
        }
        progress->update(done, bad > 0 ? fmt::format("{} bad", bad) : "");
      });
  progress->finish();
  const std::string causes = report_rejected(report, a);
  COMBA_CHECK(report.finished,
              "packing {}: {} of {} images are bad ({}; {} lists them); --on-bad skip leaves them "
              "out, in a moment as all others are ready; to take mended files delete {}.journal",
              a.source, report.rejected.size(), source->size(), causes, report_path(a), a.out);
  fmt::print("{}: {} images of {} classes, {} of them encoded anew\n", a.out, report.images,
             source->classes().size(), report.encoded);
  if (!report.peculiar.empty()) {
    fmt::print("unusual files: {}\n", join_counts(report.peculiar));
  }
  if (!causes.empty()) {
    fmt::print("left out: {}\n", causes);
  }
}

void pack_videos(const PackArguments& a) {
  if (a.options.short_side > 0) {
    throw UsageError(
        "--short-side: the boxes of videos are in pixels of their frames; pack them as they are");
  }
  const auto videos = tracking::list_videos(a.source);
  Progress progress("packing", static_cast<int64_t>(videos.size()), "videos");
  const tracking::VideoPackReport report = tracking::pack_videos(
      videos, a.out, {.threads = static_cast<int>(a.options.threads), .strict = a.on_bad == "fail"},
      [&](int64_t done) { progress.update(done); });
  progress.finish();
  report_rejected(report.rejected, "videos", report_path(a));
  fmt::print("{}: {} videos, {} frames; train on it as pack:{}\n", a.out, report.videos,
             report.frames, a.out);
}

}  // namespace

void add_pack_verb(CLI::App& data) {
  CLI::App* pack = data.add_subcommand(
      "pack", "Writes all images or videos into a pack, which loads faster than single files");
  const auto a = std::make_shared<PackArguments>();
  add_source(*pack, a->source, a->split, a->options.threads);
  pack->add_option("OUT", a->out, "The pack's index file, e.g. train.pack")->required();
  datasets::PackOptions& o = a->options;
  pack->add_option("--short-side", o.short_side,
                   "Shrinks larger images to this short side, px; 0: none")
      ->check(CLI::Range(0, 65500));
  pack->add_option("--quality", o.quality,
                   "Of the JPEGs made of images that shrink or are no plain JPEGs")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  pack->add_flag(
      "--as-is", o.as_is,
      "Keeps the bytes of PNG, CMYK, grey and progressive files too, where nothing shrinks");
  pack->add_option("--on-bad", a->on_bad,
                   "fail: a pack with bad images is not finished (default for images); skip: bad "
                   "images, or the videos that they are of, are left out (default for videos); "
                   "either lists them in OUT.rejected.txt")
      ->check(CLI::IsMember({"fail", "skip"}));
  pack->footer(
      "Baseline JPEGs keep their bytes, all else becomes one. Stopped at any point, the same "
      "command "
      "goes on where it was.\n"
      "SOURCE may also be got10k:DIR, lasot:DIR, trackingnet:DIR, coco:DIR or video:DIR.\n"
      "Examples:\n  comba data pack imagenet --split train train.pack --short-side 256\n"
      "  comba data pack got10k:GOT-10k/train got10k.pack");
  pack->callback([a] { tracking::names_videos(a->source) ? pack_videos(*a) : pack_images(*a); });
}

}  // namespace comba::tools
