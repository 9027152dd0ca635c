#include "tracking/training_data.h"

#include "tracking/box_file.h"
#include "tracking/coco.h"
#include "tracking/video_pack.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/parallel.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <map>
#include <set>
#include <string_view>

namespace comba::tracking {
namespace {

namespace fs = std::filesystem;

// OSTrack 33b5e12, lib/train/data/sampler.py: with one template and one search image.
constexpr size_t kLeastFrames = 20;
constexpr std::ptrdiff_t kLeastUsable = 5;

// Images need no more than their object: they are drawn whatever their length.
bool is_long_enough(const TrainingVideo& video) {
  const auto usable = std::count(video.usable.begin(), video.usable.end(), 1);
  return video.still ? usable > 0 : video.size() >= kLeastFrames && usable >= kLeastUsable;
}

TrainingVideo from_sequence(Sequence sequence) {
  COMBA_CHECK(sequence.frames.count > 0, "reading {}: expected the images {} and on, found none",
              sequence.name, sequence.frames[0].string());
  TrainingVideo video{.name = sequence.name,
                      .frames = frames_of(sequence.frames),
                      .truth = std::move(sequence.truth),
                      .usable = std::move(sequence.visible)};
  use_boxes_with_area(video);
  return video;
}

TrainingVideo read_got10k_video(const fs::path& folder) {
  TrainingVideo video = from_sequence(read_got10k_sequence(folder));
  const std::vector<double> absent = read_numbers(folder / "absence.label");
  COMBA_CHECK(absent.size() == video.truth.size(),
              "reading {}: expected {} flags, one for each box of groundtruth, got {}",
              (folder / "absence.label").string(), video.truth.size(), absent.size());
  for (size_t i = 0; i < absent.size(); ++i) {
    video.usable[i] = video.usable[i] != 0 && absent[i] == 0 ? 1 : 0;
  }
  return video;
}

// Frames 0.jpg and on.
TrainingVideo read_trackingnet_video(const fs::path& frames, const fs::path& boxes) {
  TrainingVideo video{.name = frames.filename().string(),
                      .frames = nullptr,
                      .truth = read_boxes(boxes),
                      .usable = {}};
  video.frames =
      frames_of({.folder = frames, .names = {}, .count = video.size(), .first = 0, .digits = 1});
  use_boxes_with_area(video);
  return video;
}

TrainingVideo read_own_video(const fs::path& folder) {
  const FrameFiles files = list_frames(folder);
  TrainingVideo video{.name = folder.filename().string(),
                      .frames = frames_of(files),
                      .truth = read_boxes(folder / "groundtruth.txt"),
                      .usable = {}};
  COMBA_CHECK(files.count == video.size(),
              "reading {}: expected a box for each of {} images in groundtruth.txt, got {}",
              folder.string(), files.count, video.size());
  use_boxes_with_area(video);
  return video;
}

std::vector<fs::path> subfolders(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory()) {
      found.push_back(entry.path());
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<ListedVideo> got10k_entries(const fs::path& folder) {
  std::vector<ListedVideo> entries;
  for (const std::string& name : got10k_names(folder)) {
    entries.push_back({name, [=] { return read_got10k_video(folder / name); }});
  }
  return entries;
}

std::vector<ListedVideo> lasot_entries(const fs::path& folder) {
  std::vector<ListedVideo> entries;
  for (const std::string& name : lasot_names(folder, "training_set.txt")) {
    entries.push_back({name, [=] { return from_sequence(read_lasot_sequence(folder, name)); }});
  }
  return entries;
}

std::vector<ListedVideo> trackingnet_entries(const fs::path& folder) {
  std::vector<ListedVideo> entries;
  for (const fs::path& part : subfolders(folder)) {
    if (!fs::is_directory(part / "frames") || !part.filename().string().starts_with("TRAIN_")) {
      continue;
    }
    for (const fs::path& frames : subfolders(part / "frames")) {
      const fs::path boxes = part / "anno" / (frames.filename().string() + ".txt");
      entries.push_back(
          {frames.filename().string(), [=] { return read_trackingnet_video(frames, boxes); }});
    }
  }
  return entries;
}

std::vector<ListedVideo> own_entries(const fs::path& folder) {
  const bool single = fs::exists(folder / "groundtruth.txt");
  std::vector<ListedVideo> entries;
  for (const fs::path& video : single ? std::vector<fs::path>{folder} : subfolders(folder)) {
    if (fs::exists(video / "groundtruth.txt")) {
      entries.push_back({video.filename().string(), [=] { return read_own_video(video); }});
    }
  }
  return entries;
}

// Those of `all` that the file names, in its order.
std::vector<ListedVideo> chosen(const std::vector<ListedVideo>& all, const fs::path& file) {
  std::map<std::string, size_t> places;
  for (size_t i = 0; i < all.size(); ++i) {
    places.emplace(all[i].name, i);
  }
  std::vector<ListedVideo> entries;
  for (const std::string& line : read_names(file)) {
    size_t place = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), place);
    const bool number = error == std::errc() && end == line.data() + line.size();
    const auto found = places.find(line);
    COMBA_CHECK(number ? place < all.size() : found != places.end(),
                "reading {}: {} is neither the name of a sequence nor a place below {}",
                file.string(), line, all.size());
    entries.push_back(all[number ? place : found->second]);
  }
  return entries;
}

// How each kind of specification is read.
using Lister = std::vector<ListedVideo> (*)(const fs::path&);
const std::map<std::string, Lister>& kinds() {
  static const std::map<std::string, Lister> kKinds = {
      {"got10k", &got10k_entries}, {"lasot", &lasot_entries}, {"trackingnet", &trackingnet_entries},
      {"coco", &coco_entries},     {"pack", &packed_videos},  {"video", &own_entries}};
  return kKinds;
}

}  // namespace

// Repeated first frames, boxes outside of the image (got-10k/toolkit issue 10), sizes that change within a sequence
// (visionml/pytracking issue 98 and others), wrong boxes (issue 29).
bool known_bad(const std::string& name) {
  constexpr const char* kPrefix = "GOT-10k_Train_";
  if (!name.starts_with(kPrefix)) {
    return false;
  }
  static const std::set<long> kOthers = {9058, 9059, 7947, 5996, 4419, 1636, 1638};
  const long number =
      std::strtol(name.c_str() + std::string_view(kPrefix).size(), nullptr, 10);  // 0: none
  return (number >= 8623 && number <= 8637) || kOthers.contains(number);
}

bool names_videos(const std::string& specification) {
  const size_t colon = specification.find(':');
  return colon != std::string::npos && kinds().contains(specification.substr(0, colon));
}

std::vector<ListedVideo> list_videos(const std::string& specification) {
  const size_t colon = specification.find(':'), hash = specification.rfind('#');
  const auto kind = kinds().find(specification.substr(0, colon));
  if (colon == std::string::npos || kind == kinds().end()) {
    throw UsageError(
        fmt::format("training data \"{}\": expected got10k:DIR, lasot:DIR, trackingnet:DIR, "
                    "coco:DIR, video:DIR or pack:FILE, \"#FILE\" behind it for some of the "
                    "sequences",
                    specification));
  }
  const fs::path folder =
      specification.substr(colon + 1, hash == std::string::npos ? hash : hash - colon - 1);
  const bool pack = kind->first == "pack";
  COMBA_CHECK(pack ? fs::is_regular_file(folder) : fs::is_directory(folder),
              "training data \"{}\": there is no {} {}", specification, pack ? "file" : "folder",
              folder.string());
  const std::vector<ListedVideo> entries = kind->second(folder);
  return hash == std::string::npos ? entries : chosen(entries, specification.substr(hash + 1));
}

TrainingSet read_training_set(const std::string& specification, bool skip_known_bad, int threads) {
  const std::vector<ListedVideo> entries = list_videos(specification);
  TrainingSet set{specification, {}, 0};
  std::vector<TrainingVideo> videos(entries.size());
  parallel_for(entries.size(), threads, [&](size_t i) {
    if (!skip_known_bad || !known_bad(entries[i].name)) {
      videos[i] = entries[i].read();
    }
  });
  for (TrainingVideo& video : videos) {
    if (is_long_enough(video)) {
      set.videos.push_back(std::move(video));
    } else {
      ++set.left_out;
    }
  }
  COMBA_CHECK(!set.videos.empty(),
              "training data \"{}\": none of its {} sequences has {} frames, {} of them with the "
              "target in view (or is a still image with one)",
              specification, entries.size(), kLeastFrames, kLeastUsable);
  return set;
}

std::string fingerprint(const std::vector<TrainingSet>& sets) {
  uint32_t sum = 0;
  const auto add = [&sum](const void* data, size_t bytes) {
    sum = crc32c({static_cast<const uint8_t*>(data), bytes}, sum);
  };
  for (const TrainingSet& set : sets) {
    for (const TrainingVideo& video : set.videos) {
      add(video.name.data(), video.name.size());
      add(video.truth.data(), video.truth.size() * sizeof(Box));
      add(video.usable.data(), video.usable.size());
    }
  }
  return fmt::format("{:08x}", sum);
}

}  // namespace comba::tracking
