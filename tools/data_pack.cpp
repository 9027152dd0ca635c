// comba data pack: images or videos into a few files.
#include "datasets/decode.h"
#include "datasets/pack.h"
#include "datasets/shrink.h"
#include "tools/commands.h"
#include "tools/data_verbs.h"
#include "tracking/training_data.h"
#include "tracking/video_pack.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"
#include "vision/base/parallel.h"
#include "vision/base/progress.h"

#include <algorithm>
#include <memory>
#include <thread>

#include <fmt/format.h>

namespace comba::tools {
namespace {

using datasets::Image;
using datasets::ImageSource;

struct PackArguments {
  std::string source, split, out;
  int64_t short_side = 0, quality = 90, threads = 0;
  bool strict = false;
};

struct Packed {
  std::string bytes, problem;
  int width = 0, height = 0;
};

// What goes into the pack: the file's own bytes, or a smaller JPEG of it.
Packed prepare(const ImageSource& source, int64_t index, const PackArguments& a) {
  Packed packed;
  try {
    const auto sample = source.read(index);
    Image image = datasets::decode_image(sample.bytes, 3, sample.name);
    packed.bytes.assign(sample.bytes.begin(), sample.bytes.end());
    if (a.short_side > 0 && std::min(image.width, image.height) > a.short_side) {
      image = datasets::shrink_short_side(image, static_cast<int>(a.short_side));
      packed.bytes = datasets::encode_jpeg(image, static_cast<int>(a.quality));
    }
    packed.width = image.width;
    packed.height = image.height;
  } catch (const Error& error) {
    packed.problem = error.what();
  }
  return packed;
}

void report_rejected(const std::vector<std::string>& rejected, const char* what,
                     const std::string& path) {
  for (size_t i = 0; i < std::min<size_t>(rejected.size(), 10); ++i) {
    log::warning("rejected: {}", rejected[i]);
  }
  if (!rejected.empty()) {
    std::string text;
    for (const std::string& line : rejected) {
      text += line + "\n";
    }
    write_file_atomic(path, text);
    log::warning("{} {} rejected; the whole list is in {}", rejected.size(), what, path);
  }
}

void pack_images(const PackArguments& a) {
  const auto source = datasets::open_images(a.source, a.split);
  datasets::PackWriter writer(a.out, source->classes());
  std::vector<std::string> rejected;
  Progress progress("packing", source->size(), "img");
  // Blocks of images are prepared in parallel and written in order, so memory stays small.
  const int64_t threads =
      a.threads > 0 ? a.threads : std::max<int64_t>(1, std::thread::hardware_concurrency());
  const int64_t block = 64 * threads;
  for (int64_t first = 0; first < source->size(); first += block) {
    const int64_t count = std::min(block, source->size() - first);
    std::vector<Packed> packed(static_cast<size_t>(count));
    parallel_for(packed.size(), static_cast<int>(a.threads), [&](size_t at) {
      packed[at] = prepare(*source, first + static_cast<int64_t>(at), a);
    });
    for (int64_t at = 0; at < count; ++at) {
      const Packed& image = packed[static_cast<size_t>(at)];
      if (image.problem.empty()) {
        writer.add(image.bytes, image.width, image.height, source->label(first + at),
                   source->original(first + at));
      } else {
        rejected.push_back(image.problem);
      }
    }
    progress.update(first + count);
  }
  progress.finish();
  COMBA_CHECK(!a.strict || rejected.empty(), "packing {}: {} of {} images are bad; the first: {}",
              a.source, rejected.size(), source->size(), rejected.front());
  COMBA_CHECK(static_cast<int64_t>(rejected.size()) < source->size(),
              "packing {}: no image could be read; the first: {}", a.source, rejected.front());
  writer.finish();
  report_rejected(rejected, "images", a.out + ".rejected.txt");
  fmt::print("{}: {} images of {} classes\n", a.out,
             source->size() - static_cast<int64_t>(rejected.size()), source->classes().size());
}

void pack_videos(const PackArguments& a) {
  if (a.short_side > 0) {
    throw UsageError(
        "--short-side: the boxes of videos are in pixels of their frames; pack them as they are");
  }
  const auto videos = tracking::list_videos(a.source);
  Progress progress("packing", static_cast<int64_t>(videos.size()), "videos");
  const tracking::VideoPackReport report = tracking::pack_videos(
      videos, a.out, {.threads = static_cast<int>(a.threads), .strict = a.strict},
      [&](int64_t done) { progress.update(done); });
  progress.finish();
  report_rejected(report.rejected, "videos", a.out + ".rejected.txt");
  fmt::print("{}: {} videos, {} frames; train on it as pack:{}\n", a.out, report.videos,
             report.frames, a.out);
}

}  // namespace

void add_pack_verb(CLI::App& data) {
  CLI::App* pack = data.add_subcommand(
      "pack", "Writes all images or videos into a pack, which loads faster than single files");
  const auto a = std::make_shared<PackArguments>();
  add_source(*pack, a->source, a->split, a->threads);
  pack->add_option("OUT", a->out, "The pack's index file, e.g. train.pack")->required();
  pack->add_option("--short-side", a->short_side,
                   "Shrinks larger images to this short side, px; 0: keeps the files' bytes");
  pack->add_option("--quality", a->quality, "JPEG quality of shrunk images")
      ->check(CLI::Range(1, 100));
  pack->add_flag(
      "--strict", a->strict,
      "Fails if any image is bad; without it bad images, or the videos that they are of, "
      "are left out and listed");
  pack->footer(
      "SOURCE may also be got10k:DIR, lasot:DIR, trackingnet:DIR, coco:DIR or video:DIR.\n"
      "Examples:\n  comba data pack imagenet --split train train.pack --short-side 256\n"
      "  comba data pack got10k:GOT-10k/train got10k.pack");
  pack->callback([a] { tracking::names_videos(a->source) ? pack_videos(*a) : pack_images(*a); });
}

}  // namespace comba::tools
