#include "vision/io/zip_archive.h"

#include "vision/base/error.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace comba::vision {
namespace {

using Bytes = std::span<const uint8_t>;

constexpr uint64_t kLocalHeader = 0x04034b50, kEntry = 0x02014b50, kEnd = 0x06054b50,
                   kLargeEnd = 0x06064b50, kLargeEndLocator = 0x07064b50;
constexpr uint64_t kEndSize = 22, kLocatorSize = 20, kMaxComment = 0xffff;
constexpr uint64_t kIn16 = 0xffff, kIn32 = 0xffffffff;  // "see the 64-bit field"

class ZipReader {
 public:
  ZipReader(Bytes archive, const std::string& origin) : archive_(archive), origin_(origin) {}

  std::map<std::string, std::optional<Bytes>> list() {
    find_directory();
    std::map<std::string, std::optional<Bytes>> files;
    uint64_t at = directory_;
    for (uint64_t i = 0; i < count_; ++i) {
      auto [name, content] = read_entry(at);
      require(files.emplace(name, content).second, "there are two files {}", name);
    }
    return files;
  }

 private:
  template <typename... Args>
  void require(bool holds, fmt::format_string<Args...> format, Args&&... args) const {
    if (!holds) {
      throw Error(
          fmt::format("reading {}: its zip archive: {}; the file is damaged or not written "
                      "by torch.save",
                      origin_, fmt::format(format, std::forward<Args>(args)...)));
    }
  }

  Bytes take(uint64_t at, uint64_t count, const char* what) const {
    require(at <= archive_.size() && count <= archive_.size() - at,
            "{}: expected {} bytes at byte {} of {}", what, count, at, archive_.size());
    return archive_.subspan(at, count);
  }

  static uint64_t number(Bytes bytes, uint64_t at, int count) {
    uint64_t result = 0;
    for (int i = count - 1; i >= 0; --i) {
      result = result << 8 | bytes[at + static_cast<uint64_t>(i)];
    }
    return result;
  }

  // The directory lies at the end of the archive, before a record that tells where, and a comment.
  void find_directory() {
    const uint64_t size = archive_.size();
    for (uint64_t back = kEndSize; back <= std::min(size, kEndSize + kMaxComment); ++back) {
      const Bytes end = archive_.subspan(size - back);
      if (number(end, 0, 4) == kEnd && number(end, 20, 2) == back - kEndSize) {
        count_ = number(end, 10, 2);
        directory_ = number(end, 16, 4);
        if (count_ == kIn16 || number(end, 12, 4) == kIn32 || directory_ == kIn32) {
          read_large_end(size - back);
        }
        return;
      }
    }
    require(false, "its end is missing");
  }

  void read_large_end(uint64_t end) {
    require(end >= kLocatorSize, "its 64-bit end is missing");
    const Bytes locator = take(end - kLocatorSize, kLocatorSize, "the place of its end");
    require(number(locator, 0, 4) == kLargeEndLocator, "its 64-bit end is missing");
    const Bytes large = take(number(locator, 8, 8), 56, "its 64-bit end");
    require(number(large, 0, 4) == kLargeEnd, "its 64-bit end is missing");
    count_ = number(large, 32, 8);
    directory_ = number(large, 48, 8);
  }

  // The entry of the directory at `at`, which goes on to the next one.
  std::pair<std::string, std::optional<Bytes>> read_entry(uint64_t& at) const {
    const Bytes entry = take(at, 46, "an entry of its directory");
    require(number(entry, 0, 4) == kEntry, "expected an entry of its directory at byte {}", at);
    const uint64_t name_size = number(entry, 28, 2), extra_size = number(entry, 30, 2);
    const Bytes text = take(at + 46, name_size, "a name");
    const std::string name(text.begin(), text.end());
    const Bytes extra = take(at + 46 + name_size, extra_size, "an entry");
    at += 46 + name_size + extra_size + number(entry, 32, 2);
    const bool encrypted = (number(entry, 8, 2) & 1) != 0, compressed = number(entry, 10, 2) != 0;
    if (encrypted || compressed) {
      return {name, std::nullopt};
    }
    uint64_t size = number(entry, 24, 4), stored = number(entry, 20, 4),
             header = number(entry, 42, 4);
    widen(extra, {&size, &stored, &header}, name);
    require(size == stored, "file {} has {} bytes, {} of them stored", name, size, stored);
    return {name, content(name, header, size)};
  }

  // Replaces fields that have no room in 32 bits by those of the extra field 1, which has just these, in order.
  void widen(Bytes extra, std::initializer_list<uint64_t*> fields, const std::string& name) const {
    while (extra.size() >= 4 && number(extra, 0, 2) != 1) {
      extra = extra.subspan(std::min<uint64_t>(extra.size(), 4 + number(extra, 2, 2)));
    }
    uint64_t at = 4;
    for (uint64_t* field : fields) {
      if (*field == kIn32) {
        require(at + 8 <= extra.size() && at + 4 <= number(extra, 2, 2),
                "file {}: its 64-bit sizes are missing", name);
        *field = number(extra, at, 8);
        at += 8;
      }
    }
  }

  // Behind a header of the file's own, whose name and extra field may have other sizes than the directory's.
  Bytes content(const std::string& name, uint64_t at, uint64_t size) const {
    const Bytes header = take(at, 30, name.c_str());
    require(number(header, 0, 4) == kLocalHeader, "file {}: expected its header at byte {}", name,
            at);
    return take(at + 30 + number(header, 26, 2) + number(header, 28, 2), size, name.c_str());
  }

  Bytes archive_;
  const std::string& origin_;
  uint64_t count_ = 0, directory_ = 0;
};

}  // namespace

std::map<std::string, std::optional<std::span<const uint8_t>>> list_zip(
    std::span<const uint8_t> archive, const std::string& origin) {
  return ZipReader(archive, origin).list();
}

}  // namespace comba::vision
