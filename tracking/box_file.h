// The text files of tracking benchmarks and trackers: boxes, flags, times. Numbers are separated by a comma, tabs or spaces,
// whoever wrote them; line ends of any system, a byte-order mark, and empty lines at the end are taken.
#pragma once

#include "tracking/box.h"

#include <filesystem>
#include <string_view>
#include <vector>

namespace comba::tracking {

// One box a line: x,y,w,h; "nan" is a number. Throws Error naming file, line and what stands there.
std::vector<Box> read_boxes(const std::filesystem::path& path);
std::vector<Box> parse_boxes(std::string_view text, const std::filesystem::path& name);

// All numbers of a file, in one line or many: LaSOT's flags, GOT-10k's labels, times.
std::vector<double> read_numbers(const std::filesystem::path& path);
std::vector<double> parse_numbers(std::string_view text, const std::filesystem::path& name);

// The lines of a list of names, without white space around them and empty ones.
std::vector<std::string> read_names(const std::filesystem::path& path);

}  // namespace comba::tracking
