#include "tracking/box_file.h"

#include "vision/base/error.h"
#include "vision/base/files.h"

#include <charconv>
#include <string>

namespace comba::tracking {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMark = "\xef\xbb\xbf";
constexpr size_t kShown = 60;  // characters of a bad line

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v'; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) {
    text.remove_prefix(1);
  }
  while (!text.empty() && is_blank(text.back())) {
    text.remove_suffix(1);
  }
  return text;
}

std::string shown(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, kShown)) {
    out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  return '"' + out + (text.size() > kShown ? "...\"" : "\"");
}

// visit(line, number) for every line, trimmed; numbers from 1.
template <typename Visit>
void for_each_line(std::string_view text, const Visit& visit) {
  if (text.starts_with(kMark)) {
    text.remove_prefix(kMark.size());
  }
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    visit(trimmed(text.substr(0, end)), number);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

// Takes a number from the front; false if there is none.
bool take_number(std::string_view& line, double& value) {
  const size_t sign = line.starts_with('+') && !line.starts_with("+-") ? 1 : 0;
  const auto [end, error] = std::from_chars(line.data() + sign, line.data() + line.size(), value);
  if (error != std::errc()) {
    return false;
  }
  line.remove_prefix(static_cast<size_t>(end - line.data()));
  return true;
}

// Takes white space and at most one comma; false if neither is there before the next number.
bool take_separator(std::string_view& line) {
  const size_t before = line.size();
  line = trimmed(line);
  if (!line.empty() && line.front() == ',') {
    line = trimmed(line.substr(1));
    return !line.empty();  // nothing after a comma is a missing number
  }
  return line.size() < before;
}

// Numbers of one line; false if something else stands there.
template <typename Add>
bool take_numbers(std::string_view line, const Add& add) {
  double value = 0;
  if (!take_number(line, value)) {
    return false;
  }
  add(value);
  while (!line.empty()) {
    if (!take_separator(line) || !take_number(line, value)) {
      return false;
    }
    add(value);
  }
  return true;
}

}  // namespace

std::vector<Box> parse_boxes(std::string_view text, const fs::path& name) {
  std::vector<Box> boxes;
  int64_t empty_line = 0;
  for_each_line(text, [&](std::string_view line, int64_t number) {
    if (line.empty()) {
      empty_line = empty_line == 0 ? number : empty_line;
      return;
    }
    COMBA_CHECK(
        empty_line == 0,
        "reading boxes from {}:{}: expected x,y,w,h, got an empty line between boxes; write "
        "a box for every frame",
        name.string(), empty_line);
    double values[4] = {};
    int count = 0;
    const bool numbers = take_numbers(line, [&](double value) {
      if (count < 4) {
        values[count] = value;
      }
      ++count;
    });
    COMBA_CHECK(numbers && count == 4,
                "reading boxes from {}:{}: expected four numbers x,y,w,h, got {}", name.string(),
                number, shown(line));
    boxes.push_back({values[0], values[1], values[2], values[3]});
  });
  return boxes;
}

std::vector<double> parse_numbers(std::string_view text, const fs::path& name) {
  std::vector<double> out;
  for_each_line(text, [&](std::string_view line, int64_t number) {
    if (line.ends_with(',')) {  // some tools end every line with one
      line = trimmed(line.substr(0, line.size() - 1));
    }
    COMBA_CHECK(line.empty() || take_numbers(line, [&](double value) { out.push_back(value); }),
                "reading {}:{}: expected numbers, got {}", name.string(), number, shown(line));
  });
  return out;
}

std::vector<Box> read_boxes(const fs::path& path) { return parse_boxes(read_file(path), path); }
std::vector<double> read_numbers(const fs::path& path) {
  return parse_numbers(read_file(path), path);
}

std::vector<std::string> read_names(const fs::path& path) {
  const std::string text = read_file(path);
  std::vector<std::string> names;
  for_each_line(text, [&](std::string_view line, int64_t) {
    if (!line.empty()) {
      names.emplace_back(line);
    }
  });
  return names;
}

}  // namespace comba::tracking
