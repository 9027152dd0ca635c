#include "tracking/synthetic_benchmark.h"

#include "datasets/decode.h"
#include "datasets/folder.h"
#include "datasets/synthetic_scene.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/parallel.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <vector>

#include <fmt/format.h>

namespace comba::tracking {
namespace {

namespace fs = std::filesystem;
using datasets::SyntheticScene;

constexpr double kAbsent = 0.02;  // of the target's area; less is nothing that could be tracked

// What the label files say of a frame.
struct Label {
  double x, y, w, h;  // from 1, cut at the image's edges
  int cover;          // eighths that are seen, 0 .. 8
  bool absent, outside, cut;
};

Label label_of(const datasets::SceneFrame& f, const SyntheticOptions& o) {
  const double left = std::clamp(f.x, 0.0, double(o.width)),
               top = std::clamp(f.y, 0.0, double(o.height));
  const double right = std::clamp(f.x + f.w, 0.0, double(o.width));
  const double bottom = std::clamp(f.y + f.h, 0.0, double(o.height));
  Label label{
      left + 1,           top + 1,         right - left, bottom - top, 0, f.visible < kAbsent,
      f.inside < kAbsent, f.inside < 0.995};
  if (!label.absent) {
    label.cover = std::max(1, static_cast<int>(std::lround(8 * f.visible)));
  }
  return label;
}

// The list of names, written last, says that all is there; a frame needs no more.
void write_frame(const fs::path& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  COMBA_CHECK(file.good(), "writing {}: {}", path.string(), std::strerror(errno));
}

// Draws the frames of a sequence into `folder` as 00000001.jpg and on.
std::vector<Label> write_frames(const SyntheticScene& scene, const fs::path& folder,
                                const SyntheticOptions& options) {
  fs::create_directories(folder);
  std::vector<Label> labels;
  for (int n = 0; n < options.frames; ++n) {
    const datasets::SceneFrame frame = scene.frame(n);
    write_frame(folder / fmt::format("{:08}.jpg", n + 1),
                datasets::encode_jpeg(frame.image, options.quality));
    labels.push_back(label_of(frame, options));
  }
  return labels;
}

template <typename Text>
std::string lines_of(const std::vector<Label>& labels, char separator, const Text& text) {
  std::string out;
  for (const Label& label : labels) {
    out += text(label);
    out += separator;
  }
  out.back() = '\n';
  return out;
}

std::string flag(bool set) { return set ? "1" : "0"; }

void write_got10k_sequence(const fs::path& folder, const SyntheticScene& scene,
                           const SyntheticOptions& o) {
  std::vector<Label> labels = write_frames(scene, folder, o);
  const bool test = o.split == "test";
  const auto box = [](const Label& l) {
    return l.absent ? std::string("-1.0000,-1.0000,-1.0000,-1.0000")
                    : fmt::format("{:.4f},{:.4f},{:.4f},{:.4f}", l.x, l.y, l.w, l.h);
  };
  write_file_atomic(folder / "groundtruth.txt",
                    test ? box(labels[0]) + "\n" : lines_of(labels, '\n', box));
  if (test) {
    return;
  }
  write_file_atomic(folder / "absence.label",
                    lines_of(labels, '\n', [](const Label& l) { return flag(l.absent); }));
  write_file_atomic(folder / "cover.label",
                    lines_of(labels, '\n', [](const Label& l) { return std::to_string(l.cover); }));
  write_file_atomic(folder / "cut_by_image.label",
                    lines_of(labels, '\n', [](const Label& l) { return flag(l.cut); }));
  write_file_atomic(
      folder / "meta_info.ini",
      fmt::format(
          "[METAINFO]\nurl: synthetic\nbegin: 00:00:00\nend: 00:00:{:02}\nanno_fps: 10Hz\n"
          "object_class: {}\nmotion_class: drifting\nmajor_class: artifact\nroot_class: object\n"
          "motion_adverb: smoothly\nresolution: ({}, {})\n",
          std::min(59, o.frames / 10), scene.object_class(), o.width, o.height));
}

void write_lasot_sequence(const fs::path& folder, const SyntheticScene& scene,
                          const SyntheticOptions& o) {
  std::vector<Label> labels = write_frames(scene, folder / "img", o);
  write_file_atomic(folder / "groundtruth.txt", lines_of(labels, '\n', [](const Label& l) {
                      return l.absent ? std::string("0,0,0,0")
                                      : fmt::format("{:.0f},{:.0f},{:.0f},{:.0f}", l.x, l.y,
                                                    std::max(1.0, l.w), std::max(1.0, l.h));
                    }));
  write_file_atomic(folder / "full_occlusion.txt", lines_of(labels, ',', [](const Label& l) {
                      return flag(l.absent && !l.outside);
                    }));
  write_file_atomic(folder / "out_of_view.txt",
                    lines_of(labels, ',', [](const Label& l) { return flag(l.outside); }));
  write_file_atomic(folder / "nlp.txt",
                    fmt::format("a {} drifting through a scene\n", scene.object_class()));
}

void check_target(const fs::path& folder, const SyntheticOptions& o) {
  COMBA_CHECK(
      !fs::exists(folder) || (fs::is_directory(folder) && fs::is_empty(folder)),
      "writing made-up sequences to {}: expected a new or empty folder; nothing was changed",
      folder.string());
  COMBA_CHECK(o.sequences >= 1 && o.frames >= 2,
              "writing made-up sequences: expected one or more of two or more frames, got {} of {}",
              o.sequences, o.frames);
}

using Photographs = std::shared_ptr<const std::vector<datasets::Image>>;

Photographs read_photographs(const SyntheticOptions& o) {
  if (o.photographs.empty()) {
    return nullptr;
  }
  std::vector<fs::path> paths;
  for (const auto& entry : fs::recursive_directory_iterator(o.photographs)) {
    if (entry.is_regular_file() && datasets::is_image_name(entry.path())) {
      paths.push_back(entry.path());
    }
  }
  COMBA_CHECK(!paths.empty(), "reading photographs: there are no images in {}", o.photographs);
  std::sort(paths.begin(), paths.end());  // folders are listed in any order
  std::vector<datasets::Image> images(paths.size());
  parallel_for(paths.size(), o.threads,
               [&](size_t n) { images[n] = datasets::read_image(paths[n], 3); });
  return std::make_shared<const std::vector<datasets::Image>>(std::move(images));
}

SyntheticScene scene_of(const SyntheticOptions& o, const Photographs& photographs, size_t n) {
  return SyntheticScene({.seed = o.seed,
                         .index = n,
                         .width = o.width,
                         .height = o.height,
                         .length = o.frames,
                         .step = o.step,
                         .photographs = photographs});
}

}  // namespace

void write_synthetic_got10k(const fs::path& folder, const SyntheticOptions& o,
                            const std::function<void(int)>& done) {
  check_target(folder, o);
  const bool known = o.split == "train" || o.split == "val" || o.split == "test";
  if (!known) {
    throw UsageError(fmt::format("split \"{}\": expected train, val or test", o.split));
  }
  std::string split = o.split;
  split[0] = static_cast<char>(split[0] - 'a' + 'A');
  const auto name = [&](size_t n) { return fmt::format("GOT-10k_{}_{:06}", split, n + 1); };
  const Photographs photographs = read_photographs(o);
  std::atomic<int> finished = 0;
  parallel_for(static_cast<size_t>(o.sequences), o.threads, [&](size_t n) {
    write_got10k_sequence(folder / name(n), scene_of(o, photographs, n), o);
    done(++finished);
  });
  std::string list;
  for (size_t n = 0; n < static_cast<size_t>(o.sequences); ++n) {
    list += name(n) + "\n";
  }
  write_file_atomic(folder / "list.txt", list);
}

void write_synthetic_lasot(const fs::path& folder, const SyntheticOptions& o,
                           const std::function<void(int)>& done) {
  check_target(folder, o);
  const Photographs photographs = read_photographs(o);
  std::map<std::string, int> counts;
  std::vector<std::pair<std::string, std::string>> names;  // class, sequence
  for (size_t n = 0; n < static_cast<size_t>(o.sequences); ++n) {
    const std::string kind = scene_of(o, photographs, n).object_class();
    names.emplace_back(kind, fmt::format("{}-{}", kind, ++counts[kind]));
  }
  std::atomic<int> finished = 0;
  parallel_for(names.size(), o.threads, [&](size_t n) {
    write_lasot_sequence(folder / names[n].first / names[n].second, scene_of(o, photographs, n), o);
    done(++finished);
  });
  std::string list;
  for (const auto& [kind, name] : names) {
    if (!list.empty()) {
      list += '\n';
    }
    list += name;
  }
  write_file_atomic(folder / "testing_set.txt", list);
}

}  // namespace comba::tracking
