#include "tracking/benchmark.h"

#include "tracking/box_file.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

#include <algorithm>
#include <cctype>
#include <sstream>

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

// As the official folders have them; none where the annotations came without images.
FrameFiles numbered_frames(const fs::path& folder, size_t count) {
  FrameFiles frames{.folder = folder, .names = {}, .count = count};
  frames.count = fs::exists(frames[0]) ? count : 0;
  return frames;
}

// "a9" before "a10".
bool by_number(const std::string& a, const std::string& b) {
  size_t i = 0, j = 0;
  const auto number = [](const std::string& text, size_t& at) {
    const size_t first = std::min(text.find_first_not_of('0', at), text.size());
    at = first;
    while (at < text.size() && std::isdigit(static_cast<unsigned char>(text[at])) != 0) {
      ++at;
    }
    return text.substr(first, at - first);
  };
  while (i < a.size() && j < b.size()) {
    const bool digits = std::isdigit(static_cast<unsigned char>(a[i])) != 0 &&
                        std::isdigit(static_cast<unsigned char>(b[j])) != 0;
    if (!digits) {
      if (a[i] != b[j]) {
        return a[i] < b[j];
      }
      ++i;
      ++j;
      continue;
    }
    const std::string x = number(a, i), y = number(b, j);
    if (x != y) {
      return x.size() != y.size() ? x.size() < y.size() : x < y;
    }
  }
  return a.size() - i != b.size() - j ? a.size() - i < b.size() - j : a < b;
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

std::string class_of(const std::string& name) { return name.substr(0, name.rfind('-')); }

Sequence read_lasot_flat(const fs::path& root, const std::string& name) {
  Sequence s;
  s.name = name;
  s.object_class = class_of(name);
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

void check_folder(const fs::path& folder, const char* benchmark) {
  COMBA_CHECK(fs::is_directory(folder),
              "reading {}: expected the folder of {}'s annotations, there is {}", folder.string(),
              benchmark, fs::exists(folder) ? "a file" : "nothing");
}

}  // namespace

fs::path FrameFiles::operator[](size_t frame) const {
  return folder / (names.empty() ? fmt::format("{:0{}}.jpg", frame + first, digits) : names[frame]);
}

FrameFiles list_frames(const fs::path& folder) {
  static constexpr const char* kEndings[] = {".jpg", ".jpeg", ".png", ".bmp", ".webp",
                                             ".ppm", ".pgm",  ".tif", ".tiff"};
  COMBA_CHECK(fs::is_directory(folder), "reading frames: {} is not a folder", folder.string());
  FrameFiles frames;
  frames.folder = folder;
  for (const auto& entry : fs::directory_iterator(folder)) {
    std::string ending = entry.path().extension().string();
    std::transform(ending.begin(), ending.end(), ending.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (entry.is_regular_file() &&
        std::find(std::begin(kEndings), std::end(kEndings), ending) != std::end(kEndings)) {
      frames.names.push_back(entry.path().filename().string());
    }
  }
  std::sort(frames.names.begin(), frames.names.end(), by_number);
  frames.count = frames.names.size();
  COMBA_CHECK(frames.count > 0, "reading frames: {} holds no images", folder.string());
  return frames;
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
  s.frames = numbered_frames(folder, s.truth.size());
  const fs::path meta = folder / "meta_info.ini";
  const std::string text = read_file(meta), resolution = meta_value(text, "resolution");
  std::istringstream numbers(resolution);
  char bracket = 0, comma = 0;
  numbers >> bracket >> s.width >> comma >> s.height;
  COMBA_CHECK(numbers && bracket == '(' && comma == ',' && s.width > 0 && s.height > 0,
              "reading {}: expected a line \"resolution: (width, height)\", got \"{}\"",
              meta.string(), resolution);
  s.object_class = meta_value(text, "object_class");
  s.motion_class = meta_value(text, "motion_class");
  return s;
}

std::vector<std::string> got10k_names(const fs::path& folder) {
  check_folder(folder, "GOT-10k");
  const fs::path list = folder / "list.txt";
  COMBA_CHECK(fs::exists(list), "reading GOT-10k from {}: expected list.txt there{}",
              folder.string(),
              fs::is_directory(folder / "val") ? "; did you mean its folder val?" : "");
  std::vector<std::string> names = read_names(list);
  COMBA_CHECK(!names.empty(), "reading {}: expected names of sequences, got none", list.string());
  return names;
}

std::vector<Sequence> read_got10k(const fs::path& folder) {
  std::vector<Sequence> sequences;
  for (const std::string& name : got10k_names(folder)) {
    sequences.push_back(read_got10k_sequence(folder / name));
  }
  return sequences;
}

Sequence read_lasot_sequence(const fs::path& root, const std::string& name) {
  const fs::path folder = root / class_of(name) / name;
  Sequence s;
  s.name = name;
  s.object_class = class_of(name);
  s.truth = read_truth(folder / "groundtruth.txt");
  const auto occluded = read_flags(folder / "full_occlusion.txt", s.truth.size());
  const auto outside = read_flags(folder / "out_of_view.txt", s.truth.size());
  for (size_t i = 0; i < occluded.size(); ++i) {
    s.visible.push_back(occluded[i] == 0 && outside[i] == 0 ? 1 : 0);
  }
  s.frames = numbered_frames(folder / "img", s.truth.size());
  return s;
}

std::vector<std::string> lasot_names(const fs::path& root, const std::string& list) {
  if (fs::exists(root / list)) {
    return read_names(root / list);
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

std::vector<Sequence> read_lasot(const fs::path& folder) {
  check_folder(folder, "LaSOT");
  const bool flat = fs::is_directory(folder / "annos");
  const bool listed = fs::exists(folder / "testing_set.txt");
  std::vector<Sequence> sequences;
  for (const std::string& name : flat && !listed ? entries(folder / "annos", false)
                                                 : lasot_names(folder, "testing_set.txt")) {
    sequences.push_back(flat ? read_lasot_flat(folder, name) : read_lasot_sequence(folder, name));
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
