// Text files that say which class each image of a flat folder is of.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace comba::datasets {

struct LabelList {
  // Either by the image's file name without folder and extension, ...
  std::map<std::string, std::string> by_name;
  // ... or by its place among all: the first is that of image number 1.
  std::vector<std::string> by_number;
};

// Lines "NAME CLASS", blanks, a tab or a comma between them; NAME,SYNSET and boxes under a heading with ImageId, as Kaggle has
// them; or CLASS alone. Empty lines are passed over. Throws Error naming the file, the line and what is wrong: lines of both
// kinds, an image named twice, no line at all.
LabelList parse_labels(std::string_view text, const std::string& path);

// Lines "ID SYNSET", the IDs 1 .. N in any order; gives the synsets by ID - 1. Errors as above.
std::vector<std::string> parse_devkit_synsets(std::string_view text, const std::string& path);

// The first word of every line, sorted: synset lists with or without the synsets' words.
std::vector<std::string> parse_class_list(std::string_view text, const std::string& path);

// Without the blanks and ends of lines around it.
std::string_view trim(std::string_view text);

// True for 1 .. 9 decimal digits.
bool is_small_number(std::string_view text);

}  // namespace comba::datasets
