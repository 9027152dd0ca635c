#include "datasets/tar_source.h"

#include "datasets/folder.h"
#include "datasets/label_list.h"
#include "datasets/tar.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/parallel.h"

#include <algorithm>
#include <map>
#include <span>
#include <sstream>

#include <nlohmann/json.hpp>
#include <sys/mman.h>

namespace comba::datasets {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kMostClasses = 1'000'000;
constexpr int64_t kMostArchives = 1'000'000;
constexpr uint64_t kMostLabelBytes = 1 << 20;

struct Entry {
  size_t archive;
  TarMember image;
  std::string label;
  bool number;  // the label is one, not a class name
};

// Path up to the first dot of the file's name, and what follows it.
std::pair<std::string_view, std::string_view> split_key(std::string_view path) {
  const size_t slash = path.rfind('/') + 1;  // 0 if there is none
  const size_t dot = std::min(path.find('.', slash), path.size());
  return {path.substr(0, dot), path.substr(std::min(dot + 1, path.size()))};
}

bool is_hidden(std::string_view path) { return path.substr(path.rfind('/') + 1).starts_with('.'); }

// The images of one archive with their labels.
class Grouper {
 public:
  Grouper(const MappedFile& file, size_t number)
      : archive_(file.bytes()), path_(file.path()), number_(number) {}

  std::vector<Entry> entries() {
    std::vector<TarMember> members = list_tar(archive_, path_.string());
    std::erase_if(members, [](const TarMember& member) { return is_hidden(member.path); });
    for (size_t begin = 0, end = 0; begin < members.size(); begin = end) {
      const auto key = split_key(members[begin].path).first;
      while (end < members.size() && split_key(members[end].path).first == key) {
        ++end;
      }
      add(std::span(members).subspan(begin, end - begin));
    }
    return std::move(entries_);
  }

 private:
  void add(std::span<const TarMember> group) {
    const std::string label = label_beside(group);
    for (const TarMember& member : group) {
      if (is_image_name(member.path)) {
        entries_.push_back({number_, member, label.empty() ? label_of_path(member) : label,
                            is_small_number(label)});
      }
    }
  }

  // Of the first of the kinds of label files that says one; empty if there is none.
  std::string label_beside(std::span<const TarMember> group) const {
    for (const char* extension : {"cls", "label", "json"}) {
      for (const TarMember& member : group) {
        if (split_key(member.path).second != extension) {
          continue;
        }
        if (std::string label = label_in(member, extension); !label.empty()) {
          return label;
        }
      }
    }
    return "";
  }

  std::string label_of_path(const TarMember& image) const {
    const fs::path path = image.path, folder = path.parent_path().filename();
    if (!folder.empty() && folder != "." && folder != "..") {
      return folder.string();
    }
    const std::string stem = path_.stem().string();
    COMBA_CHECK(path.filename().string().starts_with(stem + "_"),
                "{} has no label: expected {}.cls, .label or .json beside it, or a class folder in "
                "its path",
                place(image), split_key(image.path).first);
    return stem;
  }

  std::string label_in(const TarMember& member, std::string_view extension) const {
    COMBA_CHECK(member.size <= kMostLabelBytes, "{}: {} bytes for a label", place(member),
                member.size);
    const auto bytes = archive_.subspan(member.offset, member.size);
    const std::string text(bytes.begin(), bytes.end());
    if (extension == "json") {
      return label_of_json(text, member);
    }
    const std::string label(trim(text));
    COMBA_CHECK(!label.empty(), "{}: expected a label, got nothing", place(member));
    return label;
  }

  // Empty if the object says nothing of it.
  std::string label_of_json(const std::string& text, const TarMember& member) const {
    const auto json = nlohmann::json::parse(text, nullptr, false);
    COMBA_CHECK(json.is_object(), "{}: expected a JSON object", place(member));
    for (const char* key : {"label", "cls"}) {
      const auto found = json.find(key);
      if (found == json.end()) {
        continue;
      }
      if (found->is_number_unsigned()) {
        return std::to_string(found->get<uint64_t>());
      }
      const std::string label(trim(found->is_string() ? found->get<std::string>() : ""));
      COMBA_CHECK(!label.empty(),
                  "{}: expected \"{}\" to be a class name or a number of at least 0", place(member),
                  key);
      return label;
    }
    return "";
  }

  std::string place(const TarMember& member) const {
    return fmt::format("reading the tar archive {}: {} at byte {}", path_.string(), member.path,
                       member.offset);
  }

  std::span<const uint8_t> archive_;
  const fs::path& path_;
  size_t number_;
  std::vector<Entry> entries_;
};

void advise(const MappedFile& file, int advice) {
  ::madvise(const_cast<uint8_t*>(file.bytes().data()), file.bytes().size(), advice);
}

class TarSource final : public ImageSource {
 public:
  explicit TarSource(const std::vector<fs::path>& archives) : archives_(archives.size()) {
    std::vector<std::vector<Entry>> found(archives.size());
    parallel_for(archives.size(), 0, [&](size_t n) {
      archives_[n] = std::make_unique<MappedFile>(archives[n]);
      advise(*archives_[n], MADV_RANDOM);  // headers are far apart
      found[n] = Grouper(*archives_[n], n).entries();
      advise(*archives_[n], MADV_NORMAL);
    });
    for (auto& entries : found) {
      std::move(entries.begin(), entries.end(), std::back_inserter(entries_));
    }
    COMBA_CHECK(!entries_.empty(),
                "opening {}: it holds no images (archives in archives are not looked into; unpack "
                "the outer one)",
                archives.front().string());
    name_classes(archives.front().parent_path());
  }

  int64_t size() const override { return static_cast<int64_t>(entries_.size()); }
  int64_t label(int64_t index) const override { return labels_.at(index); }
  std::string original(int64_t index) const override { return entries_.at(index).image.path; }
  std::string name(int64_t index) const override {
    return archive_of(index).path().string() + ":" + original(index);
  }
  const std::vector<std::string>& classes() const override { return classes_; }

  EncodedSample read(int64_t index) const override {
    const TarMember& image = entries_.at(index).image;
    return {
        archive_of(index).bytes().subspan(image.offset, image.size), {}, label(index), name(index)};
  }

  std::string fingerprint() const override {
    uint32_t crc = 0;
    for (size_t i = 0; i < entries_.size(); ++i) {
      const std::string line =
          fmt::format("{} {} {}\n", entries_[i].image.path, entries_[i].image.size, labels_[i]);
      crc = crc32c({reinterpret_cast<const uint8_t*>(line.data()), line.size()}, crc);
    }
    return fmt::format("tar:{}:{:08x}", entries_.size(), crc);
  }

 private:
  const MappedFile& archive_of(int64_t index) const {
    return *archives_[entries_.at(index).archive];
  }

  void name_classes(const fs::path& folder) {
    const bool numbers = entries_.front().number;
    for (int64_t i = 0; i < size(); ++i) {
      COMBA_CHECK(entries_[i].number == numbers,
                  "opening {}: its label is \"{}\", that of {} \"{}\": expected numbers or class "
                  "names throughout",
                  name(i), entries_[i].label, name(0), entries_[0].label);
    }
    numbers ? number_classes(folder) : sort_classes();
  }

  void sort_classes() {
    std::map<std::string, int64_t> labels;
    for (const Entry& entry : entries_) {
      labels[entry.label];
    }
    for (auto& [name, label] : labels) {
      label = static_cast<int64_t>(classes_.size());
      classes_.push_back(name);
    }
    for (const Entry& entry : entries_) {
      labels_.push_back(labels.at(entry.label));
    }
  }

  void number_classes(const fs::path& folder) {
    int64_t count = 0;
    for (int64_t i = 0; i < size(); ++i) {
      const int64_t label = std::stoll(entries_[i].label);
      COMBA_CHECK(label < kMostClasses, "opening {}: label {}, expected 0 .. {}", name(i), label,
                  kMostClasses - 1);
      labels_.push_back(label);
      count = std::max(count, label + 1);
    }
    for (const char* file : {"classes.txt", "classnames.txt"}) {
      if (fs::exists(folder / file)) {
        read_classes(folder / file, count);
        return;
      }
    }
    for (int64_t i = 0; i < count; ++i) {
      classes_.push_back(std::to_string(i));
    }
  }

  void read_classes(const fs::path& file, int64_t count) {
    std::istringstream lines(read_file(file));
    for (std::string line; std::getline(lines, line);) {
      classes_.emplace_back(trim(line));
    }
    COMBA_CHECK(static_cast<int64_t>(classes_.size()) >= count,
                "reading {}: {} lines, but labels up to {}", file.string(), classes_.size(),
                count - 1);
  }

  std::vector<std::unique_ptr<MappedFile>> archives_;
  std::vector<Entry> entries_;
  std::vector<int64_t> labels_;
  std::vector<std::string> classes_;
};

// The paths of a pattern with {FIRST..LAST}, numbers as wide as FIRST.
std::vector<fs::path> expand(const std::string& pattern) {
  const size_t open = pattern.find('{'), dots = pattern.find("..", open),
               close = pattern.find('}', dots);
  const auto wrong = [&](const char* what) {
    return Error(fmt::format("opening {}: expected NAME-{{000..099}}.tar, {}", pattern, what));
  };
  if (open == std::string::npos || dots == std::string::npos || close == std::string::npos) {
    throw wrong("got another pattern");
  }
  const std::string first = pattern.substr(open + 1, dots - open - 1),
                    last = pattern.substr(dots + 2, close - dots - 2);
  if (!is_small_number(first) || !is_small_number(last)) {
    throw wrong("got no numbers");
  }
  const int64_t begin = std::stoll(first), end = std::stoll(last);
  if (begin > end || end - begin >= kMostArchives) {
    throw wrong("got no archive, or too many");
  }
  std::vector<fs::path> paths;
  for (int64_t i = begin; i <= end; ++i) {
    paths.emplace_back(fmt::format("{}{:0{}}{}", pattern.substr(0, open), i, first.size(),
                                   pattern.substr(close + 1)));
  }
  return paths;
}

}  // namespace

std::optional<std::vector<fs::path>> tar_archives(const fs::path& path) {
  if (fs::is_directory(path)) {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(path)) {
      if (entry.is_regular_file() && entry.path().extension() == ".tar" &&
          !is_hidden(entry.path().string())) {
        found.push_back(entry.path());
      }
    }
    std::sort(found.begin(), found.end());
    return found.empty() ? std::nullopt : std::optional(std::move(found));
  }
  if (path.extension() != ".tar") {
    return std::nullopt;
  }
  if (!fs::exists(path) && path.string().find('{') != std::string::npos) {
    return expand(path.string());
  }
  return std::vector{path};
}

std::unique_ptr<ImageSource> open_tars(const std::vector<fs::path>& archives) {
  return std::make_unique<TarSource>(archives);
}

}  // namespace comba::datasets
