#include "tracking/training_data.h"

#include "datasets/decode.h"
#include "tracking/box_file.h"
#include "tracking/parallel.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <map>
#include <set>

namespace comba::tracking {
namespace {

namespace fs = std::filesystem;

// OSTrack 33b5e12, lib/train/data/sampler.py: with one template and one search image.
constexpr size_t kLeastFrames = 20;
constexpr std::ptrdiff_t kLeastUsable = 5;

void use_boxes_with_area(TrainingVideo& video) {
  video.usable.resize(video.truth.size(), 1);
  for (size_t i = 0; i < video.truth.size(); ++i) {
    video.usable[i] = video.usable[i] != 0 && video.truth[i].has_area() ? 1 : 0;
  }
}

TrainingVideo from_sequence(Sequence sequence) {
  COMBA_CHECK(sequence.frames.count > 0, "reading {}: expected the images {} and on, found none",
              sequence.name, sequence.frames[0].string());
  TrainingVideo video{sequence.name, sequence.frames, std::move(sequence.truth),
                      std::move(sequence.visible)};
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
  TrainingVideo video{frames.filename().string(), {frames, {}, 0}, read_boxes(boxes), {}};
  video.frames.count = video.truth.size();
  for (size_t i = 0; i < video.truth.size(); ++i) {
    video.frames.names.push_back(fmt::format("{}.jpg", i));
  }
  use_boxes_with_area(video);
  return video;
}

TrainingVideo read_own_video(const fs::path& folder) {
  TrainingVideo video{
      folder.filename().string(), list_frames(folder), read_boxes(folder / "groundtruth.txt"), {}};
  COMBA_CHECK(video.frames.count == video.truth.size(),
              "reading {}: expected a box for each of {} images in groundtruth.txt, got {}",
              folder.string(), video.frames.count, video.truth.size());
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

}  // namespace

// Repeated first frames, boxes outside of the image (got-10k/toolkit issue 10), sizes that change within a sequence
// (visionml/pytracking issue 98 and others), wrong boxes (issue 29).
bool known_bad(const std::string& name) {
  constexpr const char* kPrefix = "GOT-10k_Train_";
  if (!name.starts_with(kPrefix)) {
    return false;
  }
  static const std::set<int> kOthers = {9058, 9059, 7947, 5996, 4419, 1636, 1638};
  const int number = std::atoi(name.c_str() + std::string(kPrefix).size());
  return (number >= 8623 && number <= 8637) || kOthers.contains(number);
}

std::vector<ListedVideo> list_videos(const std::string& specification) {
  using Lister = std::vector<ListedVideo> (*)(const fs::path&);
  static const std::map<std::string, Lister> kKinds = {{"got10k", &got10k_entries},
                                                       {"lasot", &lasot_entries},
                                                       {"trackingnet", &trackingnet_entries},
                                                       {"video", &own_entries}};
  const size_t colon = specification.find(':'), hash = specification.rfind('#');
  const auto kind = kKinds.find(specification.substr(0, colon));
  if (colon == std::string::npos || kind == kKinds.end()) {
    throw UsageError(
        fmt::format("training data \"{}\": expected got10k:DIR, lasot:DIR, trackingnet:DIR or "
                    "video:DIR, \"#FILE\" behind it for some of the sequences",
                    specification));
  }
  const fs::path folder =
      specification.substr(colon + 1, hash == std::string::npos ? hash : hash - colon - 1);
  COMBA_CHECK(fs::is_directory(folder), "training data \"{}\": there is no folder {}",
              specification, folder.string());
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
    const auto usable = std::count(video.usable.begin(), video.usable.end(), 1);
    if (video.truth.size() >= kLeastFrames && usable >= kLeastUsable) {
      set.videos.push_back(std::move(video));
    } else {
      ++set.left_out;
    }
  }
  COMBA_CHECK(!set.videos.empty(),
              "training data \"{}\": none of its {} sequences has {} frames, {} of them with the "
              "target in view",
              specification, entries.size(), kLeastFrames, kLeastUsable);
  return set;
}

std::vector<std::string> video_problems(const ListedVideo& listed) {
  std::vector<std::string> problems;
  TrainingVideo video;
  try {
    video = listed.read();
  } catch (const Error& error) {
    return {error.what()};
  }
  if (known_bad(listed.name)) {
    problems.push_back(fmt::format("{}: its labels are known to be wrong", listed.name));
  }
  int width = 0, height = 0;
  for (size_t n = 0; n < video.truth.size(); ++n) {
    const fs::path path = video.frames[n];
    try {
      const datasets::Image image = datasets::read_image(path, 3);
      if (n == 0) {
        width = image.width;
        height = image.height;
      }
      if (image.width != width || image.height != height) {
        problems.push_back(fmt::format("{}: {} x {} pixels, the first frame has {} x {}",
                                       path.string(), image.width, image.height, width, height));
      }
      const Box& box = video.truth[n];
      if (video.usable[n] != 0 && (box.x >= image.width || box.y >= image.height ||
                                   box.x + box.w <= 0 || box.y + box.h <= 0)) {
        problems.push_back(fmt::format("{}: the box {},{},{},{} lies outside of the {} x {} pixels",
                                       path.string(), box.x, box.y, box.w, box.h, image.width,
                                       image.height));
      }
    } catch (const Error& error) {
      problems.push_back(error.what());
    }
  }
  return problems;
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
