#include "tracking/benchmark.h"

#include "tracking/box_file.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

#include <algorithm>
#include <cstdio>

namespace comba::tracking {
namespace {

namespace fs = std::filesystem;

void check_count(const fs::path& file, const std::string& what, size_t got, size_t frames) {
  COMBA_CHECK(got == frames, "reading {}: expected {} {}, one for each box of groundtruth, got {}",
              file.string(), frames, what, got);
}

std::vector<uint8_t> read_flags(const fs::path& file, size_t frames) {
  const std::vector<double> numbers = read_numbers(file);
  check_count(file, "flags", numbers.size(), frames);
  std::vector<uint8_t> flags;
  for (const double number : numbers) {
    flags.push_back(number != 0 ? 1 : 0);
  }
  return flags;
}

std::vector<Box> read_truth(const fs::path& file) {
  std::vector<Box> boxes = read_boxes(file);
  COMBA_CHECK(!boxes.empty(), "reading {}: expected one box a frame, got an empty file",
              file.string());
  return boxes;
}

// "key: value" of a meta_info.ini, or "".
std::string meta_value(const std::string& text, const std::string& key) {
  const size_t at = text.find("\n" + key + ": ");
  if (at == std::string::npos) {
    return {};
  }
  const size_t begin = at + key.size() + 3, end = text.find_first_of("\r\n", begin);
  return text.substr(begin, end == std::string::npos ? end : end - begin);
}

Sequence read_got10k_sequence(const fs::path& folder) {
  Sequence s;
  s.name = folder.filename().string();
  s.truth = read_truth(folder / "groundtruth.txt");
  COMBA_CHECK(fs::exists(folder / "cover.label"),
              "reading {}: there is no cover.label; GOT-10k's test split has no public annotations "
              "and is scored by its server: use its val split here",
              folder.string());
  s.visible = read_flags(folder / "cover.label", s.truth.size());
  const fs::path meta = folder / "meta_info.ini";
  const std::string text = read_file(meta), resolution = meta_value(text, "resolution");
  COMBA_CHECK(std::sscanf(resolution.c_str(), "(%lf, %lf)", &s.width, &s.height) == 2 &&
                  s.width > 0 && s.height > 0,
              "reading {}: expected a line \"resolution: (width, height)\", got \"{}\"",
              meta.string(), resolution);
  s.object_class = meta_value(text, "object_class");
  s.motion_class = meta_value(text, "motion_class");
  return s;
}

std::string class_of(const std::string& name) { return name.substr(0, name.rfind('-')); }

Sequence read_lasot_folder(const fs::path& folder) {
  Sequence s;
  s.name = folder.filename().string();
  s.truth = read_truth(folder / "groundtruth.txt");
  const auto occluded = read_flags(folder / "full_occlusion.txt", s.truth.size());
  const auto outside = read_flags(folder / "out_of_view.txt", s.truth.size());
  for (size_t i = 0; i < occluded.size(); ++i) {
    s.visible.push_back(occluded[i] == 0 && outside[i] == 0 ? 1 : 0);
  }
  return s;
}

Sequence read_lasot_flat(const fs::path& root, const std::string& name) {
  Sequence s;
  s.name = name;
  s.truth = read_truth(root / "annos" / (name + ".txt"));
  s.visible = read_flags(root / "absent" / (name + ".txt"), s.truth.size());
  for (uint8_t& flag : s.visible) {
    flag = flag == 0 ? 1 : 0;
  }
  const fs::path attributes = root / "att" / (name + ".txt");
  if (fs::exists(attributes)) {
    s.attributes = read_flags(attributes, std::size(kLasotAttributes));
  }
  return s;
}

// Sorted, so that the order is that of no file system.
std::vector<std::string> entries(const fs::path& folder, bool folders) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory() == folders) {
      names.push_back((folders ? entry.path().filename() : entry.path().stem()).string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> lasot_names(const fs::path& root, bool flat) {
  if (fs::exists(root / "testing_set.txt")) {
    return read_names(root / "testing_set.txt");
  }
  if (flat) {
    return entries(root / "annos", false);
  }
  std::vector<std::string> names;
  for (const std::string& group : entries(root, true)) {
    for (const std::string& name : entries(root / group, true)) {
      if (fs::exists(root / group / name / "groundtruth.txt")) {
        names.push_back(name);
      }
    }
  }
  return names;
}

void check_folder(const fs::path& folder, const char* benchmark) {
  COMBA_CHECK(fs::is_directory(folder),
              "reading {}: expected the folder of {}'s annotations, there is {}", folder.string(),
              benchmark, fs::exists(folder) ? "a file" : "nothing");
}

}  // namespace

std::vector<Sequence> read_got10k(const fs::path& folder) {
  check_folder(folder, "GOT-10k");
  const fs::path list = folder / "list.txt";
  COMBA_CHECK(fs::exists(list), "reading GOT-10k from {}: expected list.txt there{}",
              folder.string(),
              fs::is_directory(folder / "val") ? "; did you mean its folder val?" : "");
  std::vector<Sequence> sequences;
  for (const std::string& name : read_names(list)) {
    sequences.push_back(read_got10k_sequence(folder / name));
  }
  COMBA_CHECK(!sequences.empty(), "reading {}: expected names of sequences, got none",
              list.string());
  return sequences;
}

std::vector<Sequence> read_lasot(const fs::path& folder) {
  check_folder(folder, "LaSOT");
  const bool flat = fs::is_directory(folder / "annos");
  std::vector<Sequence> sequences;
  for (const std::string& name : lasot_names(folder, flat)) {
    sequences.push_back(flat ? read_lasot_flat(folder, name)
                             : read_lasot_folder(folder / class_of(name) / name));
    sequences.back().object_class = class_of(name);
  }
  COMBA_CHECK(!sequences.empty(),
              "reading LaSOT from {}: expected <class>/<sequence>/groundtruth.txt or annos/, found "
              "neither",
              folder.string());
  return sequences;
}

ResultFiles find_results(const fs::path& folder, const std::string& sequence) {
  ResultFiles files;
  for (const fs::path& place : {folder, folder / sequence}) {
    if (fs::exists(place / (sequence + ".txt"))) {
      files.boxes.push_back(place / (sequence + ".txt"));
    }
    for (int repetition = 1; files.boxes.size() + 1 == static_cast<size_t>(repetition);
         ++repetition) {
      const fs::path file = place / fmt::format("{}_{:03}.txt", sequence, repetition);
      if (fs::exists(file)) {
        files.boxes.push_back(file);
      }
    }
    if (!files.boxes.empty()) {
      for (const fs::path& times :
           {place / (sequence + "_time.txt"), place / "times" / (sequence + "_time.txt")}) {
        if (files.times.empty() && fs::exists(times)) {
          files.times = times;
        }
      }
      break;
    }
  }
  return files;
}

}  // namespace comba::tracking
