// Annotated sequences of a benchmark, in its official layout on disk, and where a tracker's results for them lie.
#pragma once

#include "tracking/box.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace comba::tracking {

// A sequence's frames on disk: the named files of a folder, or numbered ones (00000001.jpg and on).
struct FrameFiles {
  std::filesystem::path folder;
  std::vector<std::string> names;
  size_t count = 0;
  size_t first = 1;  // number of the first, where there are no names
  int digits = 8;    // at the least

  std::filesystem::path operator[](size_t frame) const;
};
// The images directly in a folder, by name, digits as numbers ("9.jpg" before "10.jpg").
FrameFiles list_frames(const std::filesystem::path& folder);

struct Sequence {
  std::string name;
  FrameFiles frames;       // count 0: only annotations are there
  std::vector<Box> truth;  // one a frame
  std::vector<uint8_t>
      visible;  // of every frame: GOT-10k cover > 0; LaSOT neither fully occluded nor out of view
  double width = 0, height = 0;  // of the frames (GOT-10k)
  std::string object_class, motion_class;
  std::vector<uint8_t>
      attributes;  // LaSOT's 14 of kLasotAttributes, where the annotations have them
};

inline constexpr const char* kLasotAttributes[] = {"IV", "POC", "DEF", "MB", "CM", "ROT", "BC",
                                                   "VC", "SV",  "FOC", "FM", "OV", "LR",  "ARC"};

// GOT-10k's val (or train) folder: list.txt, <seq>/groundtruth.txt, cover.label, meta_info.ini.
std::vector<Sequence> read_got10k(const std::filesystem::path& folder);

// The names of its list.txt, and one of them; of the training set alike.
std::vector<std::string> got10k_names(const std::filesystem::path& folder);
Sequence read_got10k_sequence(const std::filesystem::path& folder);

// LaSOT's own folders <class>/<seq>/{groundtruth,full_occlusion,out_of_view}.txt, or the evaluation toolkit's annos/<seq>.txt,
// absent/<seq>.txt and att/<seq>.txt. The names come from testing_set.txt where it exists.
std::vector<Sequence> read_lasot(const std::filesystem::path& folder);

// The names in `list` below the root if it is there, or else all; and one of the official folders.
std::vector<std::string> lasot_names(const std::filesystem::path& root, const std::string& list);
Sequence read_lasot_sequence(const std::filesystem::path& root, const std::string& name);

// A tracker's files of one sequence, in any of the usual layouts below `folder`: <seq>.txt, or GOT-10k's <seq>/<seq>_001.txt
// (one file a repetition). Empty if there are none.
struct ResultFiles {
  std::vector<std::filesystem::path> boxes;
  std::filesystem::path times;  // seconds a frame, or empty
};
ResultFiles find_results(const std::filesystem::path& folder, const std::string& sequence);

}  // namespace comba::tracking
