#include "datasets/label_list.h"

#include "vision/base/error.h"

#include <algorithm>
#include <functional>

namespace comba::datasets {
namespace {

// The first word and the rest of a line without blanks around it.
std::pair<std::string_view, std::string_view> split(std::string_view line) {
  const size_t end = std::min(line.find_first_of(" \t,"), line.size());
  std::string_view rest = trim(line.substr(end));
  if (rest.starts_with(',')) {
    rest = trim(rest.substr(1));
  }
  return {line.substr(0, end), rest};
}

using Body = std::function<void(std::string_view line, const std::string& place)>;

void for_each_line(std::string_view text, const std::string& path, const Body& body) {
  int64_t number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trim(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (!line.empty()) {
      body(line, fmt::format("reading {}:{}", path, number));
    }
  }
}

// NAME of folder/NAME.extension.
std::string stem(std::string_view path) {
  path = path.substr(path.rfind('/') + 1);
  return std::string(path.substr(0, path.rfind('.')));
}

}  // namespace

std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  text.remove_prefix(std::min(text.find_first_not_of(kBlank), text.size()));
  return text.substr(0, text.find_last_not_of(kBlank) + 1);
}

LabelList parse_labels(std::string_view text, const std::string& path) {
  LabelList list;
  bool kaggle = false;
  for_each_line(text, path, [&](std::string_view line, const std::string& place) {
    const auto [first, rest] = split(line);
    if (first == "ImageId" && list.by_name.empty() && list.by_number.empty()) {
      kaggle = true;
      return;
    }
    COMBA_CHECK(rest.empty() ? list.by_name.empty() && !kaggle : list.by_number.empty(),
                "{}: \"{}\": expected lines NAME CLASS throughout, or CLASS throughout", place,
                line);
    if (rest.empty()) {
      list.by_number.emplace_back(first);
      return;
    }
    const std::string name = stem(first);
    COMBA_CHECK(!name.empty(), "{}: \"{}\": expected the name of an image first", place, line);
    const std::string_view label = kaggle ? split(rest).first : rest;  // boxes follow
    COMBA_CHECK(list.by_name.emplace(name, label).second, "{}: {} is named a second time", place,
                name);
  });
  COMBA_CHECK(!list.by_name.empty() || !list.by_number.empty(), "reading {}: it holds no labels",
              path);
  return list;
}

std::vector<std::string> parse_devkit_synsets(std::string_view text, const std::string& path) {
  std::map<int64_t, std::string> synsets;
  for_each_line(text, path, [&](std::string_view line, const std::string& place) {
    const auto [id, rest] = split(line);
    COMBA_CHECK(is_small_number(id) && !rest.empty(),
                "{}: \"{}\": expected ID SYNSET, e.g. 1 n02119789", place, line);
    COMBA_CHECK(synsets.emplace(std::stoll(std::string(id)), split(rest).first).second,
                "{}: ID {} a second time", place, id);
  });
  COMBA_CHECK(!synsets.empty() && synsets.begin()->first == 1 &&
                  synsets.rbegin()->first == static_cast<int64_t>(synsets.size()),
              "reading {}: expected every ID from 1 on, got {} of them up to {}", path,
              synsets.size(), synsets.empty() ? 0 : synsets.rbegin()->first);
  std::vector<std::string> by_id;
  for (auto& [id, synset] : synsets) {
    by_id.push_back(std::move(synset));
  }
  return by_id;
}

std::vector<std::string> parse_class_list(std::string_view text, const std::string& path) {
  std::vector<std::string> names;
  for_each_line(text, path, [&](std::string_view line, const std::string&) {
    names.emplace_back(split(line).first);
  });
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  COMBA_CHECK(twice == names.end(), "reading {}: the class {} is listed twice", path, *twice);
  COMBA_CHECK(!names.empty(), "reading {}: it lists no classes", path);
  return names;
}

bool is_small_number(std::string_view text) {
  return !text.empty() && text.size() < 10 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace comba::datasets
