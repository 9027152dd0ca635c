#include "datasets/tar.h"

#include "vision/base/error.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

namespace comba::datasets {
namespace {

constexpr size_t kBlock = 512;
constexpr uint64_t kMostExtension = 1 << 20;  // bytes of a pax header or long name

// Fields of a header block: where they begin and how long they are.
struct Field {
  size_t at, length;
};
constexpr Field kName{0, 100}, kSize{124, 12}, kChecksum{148, 8}, kMagic{257, 5}, kPrefix{345, 155};
constexpr size_t kType = 156;

class TarReader {
 public:
  TarReader(std::span<const uint8_t> archive, const std::string& name)
      : archive_(archive), name_(name) {}

  std::vector<TarMember> list() {
    while (next_header()) {
      const uint64_t size = long_size_ && !extends() ? *long_size_ : number(kSize);
      require(size <= archive_.size() - content_, "{} bytes of content, {} are left", size,
              archive_.size() - content_);
      take(size);
      const uint64_t padded = (size + kBlock - 1) / kBlock * kBlock;
      header_ = content_ + std::min(padded, archive_.size() - content_);
    }
    return std::move(members_);
  }

 private:
  template <typename... Args>
  void require(bool holds, fmt::format_string<Args...> format, Args&&... args) const {
    if (!holds) {
      throw Error(fmt::format("reading the tar archive {}: header at byte {}: {}", name_, header_,
                              fmt::format(format, std::forward<Args>(args)...)));
    }
  }

  std::string_view field(const Field& field) const {
    return {reinterpret_cast<const char*>(archive_.data()) + header_ + field.at, field.length};
  }
  // Up to a zero byte or the field's end.
  static std::string_view text(std::string_view field) { return field.substr(0, field.find('\0')); }
  char type() const { return static_cast<char>(archive_[header_ + kType]); }
  bool extends() const { return std::string_view("xgLK").find(type()) != std::string_view::npos; }

  // Octal digits between blanks, or for large numbers GNU's base 256, marked by the top bit.
  uint64_t number(const Field& where) const {
    std::string_view digits = field(where);
    if ((digits.front() & 0x80) != 0) {
      uint64_t value = static_cast<uint8_t>(digits.front()) & 0x7f;
      for (const char c : digits.substr(1)) {
        require(value < uint64_t{1} << 55, "a size beyond 2^63");
        value = value << 8 | static_cast<uint8_t>(c);
      }
      return value;
    }
    digits = text(digits);
    digits.remove_prefix(std::min(digits.find_first_not_of(' '), digits.size()));
    digits = digits.substr(0, digits.find(' '));
    uint64_t value = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value, 8);
    require(error == std::errc() && end == digits.data() + digits.size(),
            "expected an octal number, got \"{}\"", digits);
    return value;
  }

  bool all_zero(uint64_t from, uint64_t count) const {
    const auto begin = archive_.begin() + static_cast<ptrdiff_t>(from);
    return std::all_of(begin, begin + static_cast<ptrdiff_t>(count),
                       [](uint8_t byte) { return byte == 0; });
  }

  // Verifies the header at header_; false at the end mark.
  bool next_header() {
    const uint64_t left = archive_.size() - header_;
    require(left > 0,
            "expected a member or the end mark, got the end of the file; it is cut short");
    require(left >= kBlock, "expected {} bytes, got {}; it is cut short", kBlock, left);
    if (all_zero(header_, kBlock)) {
      require(all_zero(header_, left), "more follows the end mark; joined archives must be apart");
      return false;
    }
    // Of all bytes, those of the sum itself as blanks; some old writers summed them as signed.
    int64_t plain = 0, with_sign = 0;
    for (size_t i = 0; i < kBlock; ++i) {
      const bool own = i - kChecksum.at < kChecksum.length;
      const uint8_t byte = own ? ' ' : archive_[header_ + i];
      plain += byte;
      with_sign += static_cast<int8_t>(byte);
    }
    const auto claimed = static_cast<int64_t>(number(kChecksum));
    require(claimed == plain || claimed == with_sign,
            "its checksum is {}, expected {}; it is damaged, or no tar archive", claimed, plain);
    content_ = header_ + kBlock;
    return true;
  }

  std::string_view content(uint64_t size) const {
    require(size <= kMostExtension, "a name or extended header of {} bytes, expected at most {}",
            size, kMostExtension);
    return {reinterpret_cast<const char*>(archive_.data()) + content_, size};
  }

  void take(uint64_t size) {
    switch (type()) {
      case 'x':
        read_pax(content(size));
        return;
      case 'L':
        long_path_ = text(content(size));
        return;
      case 'g':  // defaults for all members: comments in practice
      case 'K':  // the name of a link
        return;
      case '0':
      case '\0':
      case '7':
        members_.push_back({path(), content_, size});
        break;
      case '1':
      case '2':
      case 'S':
        require(false, "{} is a {}; pack the files themselves", path(),
                type() == 'S' ? "sparse file" : "link");
        break;
      default:  // folders, devices
        break;
    }
    long_path_.reset();
    long_size_.reset();
  }

  std::string path() const {
    if (long_path_) {
      return *long_path_;
    }
    const std::string name(text(field(kName)));
    const std::string_view prefix = field(kMagic) == "ustar" ? text(field(kPrefix)) : "";
    // GNU's own format ("ustar  ") has times where POSIX has the prefix.
    const bool gnu = archive_[header_ + kMagic.at + kMagic.length] == ' ';
    return prefix.empty() || gnu ? name : std::string(prefix) + "/" + name;
  }

  // Records "LENGTH KEY=VALUE\n", LENGTH counting all of that.
  void read_pax(std::string_view records) {
    while (!records.empty()) {
      size_t length = 0;
      const auto [end, error] =
          std::from_chars(records.data(), records.data() + records.size(), length);
      const auto digits = static_cast<size_t>(end - records.data());
      require(error == std::errc() && length > digits + 1 && length <= records.size() &&
                  *end == ' ' && records[length - 1] == '\n',
              "its extended header is damaged");
      const std::string_view record = records.substr(digits + 1, length - digits - 2);
      const size_t equals = record.find('=');
      require(equals != std::string_view::npos, "its extended header is damaged");
      set(record.substr(0, equals), record.substr(equals + 1));
      records.remove_prefix(length);
    }
  }

  void set(std::string_view key, std::string_view value) {
    require(!key.starts_with("GNU.sparse"), "a sparse file; pack the files themselves");
    if (key == "path") {
      long_path_ = text(value);
    } else if (key == "size") {
      uint64_t size = 0;
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), size);
      require(error == std::errc() && end == value.data() + value.size(),
              "expected a size in its extended header, got \"{}\"", value);
      long_size_ = size;
    }
  }

  const std::span<const uint8_t> archive_;
  const std::string& name_;
  uint64_t header_ = 0, content_ = 0;     // offsets of the header being read and of what follows it
  std::optional<std::string> long_path_;  // of the next member, from headers before its own
  std::optional<uint64_t> long_size_;
  std::vector<TarMember> members_;
};

}  // namespace

std::vector<TarMember> list_tar(std::span<const uint8_t> archive, const std::string& name) {
  return TarReader(archive, name).list();
}

}  // namespace comba::datasets
