#include "datasets/pack.h"

#include "vision/base/error.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include <nlohmann/json.hpp>

namespace comba::datasets {
namespace fs = std::filesystem;
namespace {

constexpr char kMagic[8] = {'C', 'O', 'M', 'B', 'A', 'P', 'K', '1'};
constexpr uint32_t kPlain = 1, kAttached = 2;  // versions
constexpr uint64_t kAlignment = 64;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t crc;
  uint64_t records, json_bytes, path_bytes, attachment_bytes;
  uint8_t zero[16];
};
static_assert(sizeof(Header) == 64);

struct Record {
  uint64_t offset;
  uint32_t length, crc;
  int32_t label;
  uint32_t path;
  uint16_t width, height, shard, zero;
};
static_assert(sizeof(Record) == 32);

std::span<const uint8_t> as_bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

fs::path shard_path(const fs::path& index, size_t shard) {
  return fmt::format("{}.{:03}", index.string(), shard);
}

fs::path partial_path(const fs::path& index, size_t shard) {
  return shard_path(index, shard).string() + ".partial";
}

class PackSource final : public Pack {
 public:
  explicit PackSource(const fs::path& path) : path_(path.string()), index_(path) {
    read_index();
    check_records();
  }

  int64_t size() const override { return static_cast<int64_t>(header_.records); }
  int64_t label(int64_t index) const override { return record(index).label; }
  std::string name(int64_t index) const override {
    return fmt::format("{}[{}] {}", path_, index, original(index));
  }
  std::string original(int64_t index) const override { return paths_.data() + record(index).path; }
  const std::vector<std::string>& classes() const override { return classes_; }
  std::span<const uint8_t> attachment() const override { return attachment_; }
  std::string fingerprint() const override {
    return fmt::format("pack:{}:{:08x}", header_.records, header_.crc);
  }

  EncodedSample read(int64_t index) const override {
    const Record entry = record(index);
    EncodedSample sample;
    sample.bytes = shards_[entry.shard]->bytes().subspan(entry.offset, entry.length);
    sample.label = entry.label;
    sample.name = name(index);
    COMBA_CHECK(
        crc32c(sample.bytes) == entry.crc,
        "reading {}: its checksum differs at byte {} of {}; the pack is damaged, make it again",
        sample.name, entry.offset, shard_path(path_, entry.shard).string());
    return sample;
  }

 private:
  Record record(int64_t index) const {
    Record entry;
    std::memcpy(&entry, records_.data() + index * sizeof(Record), sizeof entry);
    return entry;
  }

  template <typename... Args>
  void require(bool holds, fmt::format_string<Args...> format, Args&&... args) const {
    if (!holds) {
      throw Error(fmt::format("opening the pack {}: {}", path_,
                              fmt::format(format, std::forward<Args>(args)...)));
    }
  }

  void read_index() {
    const auto bytes = index_.bytes();
    require(bytes.size() >= sizeof(Header), "expected an index of at least {} bytes, got {}",
            sizeof(Header), bytes.size());
    std::memcpy(&header_, bytes.data(), sizeof header_);
    require(std::memcmp(header_.magic, kMagic, sizeof kMagic) == 0, "it is not a pack index");
    require(header_.version == kPlain || header_.version == kAttached,
            "version {} is not known here, expected {} or {}", header_.version, kPlain, kAttached);
    require(std::all_of(std::begin(header_.zero), std::end(header_.zero),
                        [](uint8_t byte) { return byte == 0; }),
            "its header is damaged");
    const auto body = bytes.subspan(sizeof(Header));
    const uint64_t most = body.size();
    require(
        header_.records <= most / sizeof(Record) && header_.json_bytes <= most &&
            header_.path_bytes <= most && header_.attachment_bytes <= most &&
            header_.records * sizeof(Record) + header_.attachment_bytes + header_.json_bytes +
                    header_.path_bytes ==
                most,
        "the index holds {} bytes, its header claims another number; it is cut short or damaged",
        bytes.size());
    require(crc32c(body) == header_.crc,
            "the checksum of the index differs; it is damaged, make the pack again");
    records_ = body.first(header_.records * sizeof(Record));
    attachment_ = body.subspan(records_.size(), header_.attachment_bytes);
    const auto text = body.subspan(records_.size() + attachment_.size());
    const auto json = text.first(header_.json_bytes), paths = text.subspan(header_.json_bytes);
    paths_ = {reinterpret_cast<const char*>(paths.data()), paths.size()};
    require(paths_.empty() || paths_.back() == '\0', "the list of paths has no end");
    try {
      const auto table = nlohmann::json::parse(json.begin(), json.end());
      classes_ = table.at("classes").get<std::vector<std::string>>();
      open_shards(table.at("shards").get<std::vector<uint64_t>>());
    } catch (const nlohmann::json::exception& error) {
      require(false, "the class table: {}", error.what());
    }
  }

  void open_shards(const std::vector<uint64_t>& sizes) {
    for (size_t i = 0; i < sizes.size(); ++i) {
      shards_.push_back(std::make_unique<MappedFile>(shard_path(path_, i)));
      require(shards_.back()->bytes().size() == sizes[i],
              "{}: expected {} bytes, got {}; it is cut short", shard_path(path_, i).string(),
              sizes[i], shards_.back()->bytes().size());
    }
  }

  void check_records() const {
    for (int64_t i = 0; i < size(); ++i) {
      const Record entry = record(i);
      require(entry.shard < shards_.size(), "record {}: shard {} of {}", i, entry.shard,
              shards_.size());
      const uint64_t bytes = shards_[entry.shard]->bytes().size();
      require(entry.offset % kAlignment == 0 && entry.offset <= bytes &&
                  entry.length <= bytes - entry.offset,
              "record {}: bytes {} + {} lie outside its shard of {}", i, entry.offset, entry.length,
              bytes);
      require(entry.label >= 0 && static_cast<size_t>(entry.label) < classes_.size(),
              "record {}: label {} of {} classes", i, entry.label, classes_.size());
      require(entry.path < paths_.size(), "record {}: its path lies outside the index", i);
    }
  }

  std::string path_;
  MappedFile index_;
  Header header_{};
  std::span<const uint8_t> records_, attachment_;
  std::string_view paths_;
  std::vector<std::string> classes_;
  std::vector<std::unique_ptr<MappedFile>> shards_;
};

}  // namespace

std::unique_ptr<Pack> open_pack(const fs::path& index) {
  return std::make_unique<PackSource>(index);
}

void make_place_for_pack(const fs::path& index) {
  COMBA_CHECK(!fs::is_directory(index),
              "packing: {} is a folder; give the file that becomes the pack's index, e.g. "
              "{}/train.pack",
              index.string(), index.string());
  std::error_code error;
  const fs::path folder = fs::absolute(index).parent_path();
  fs::create_directories(folder, error);
  COMBA_CHECK(!error, "packing: making the folder {}: {}", folder.string(), error.message());
}

PackWriter::PackWriter(fs::path index, std::vector<std::string> classes, uint64_t shard_bytes)
    : index_(std::move(index)), shard_bytes_(shard_bytes) {
  name_classes(std::move(classes));
}

PackWriter::~PackWriter() {
  std::error_code ignored;
  for (size_t i = 0; i < shards_.size() && !keep_; ++i) {
    fs::remove(shards_[i]->path(), ignored);
  }
}

void PackWriter::name_classes(std::vector<std::string> classes) {
  for (const std::string& name : classes) {
    try {
      nlohmann::json(name).dump();
    } catch (const nlohmann::json::exception&) {
      throw Error(fmt::format("writing {}: the class name \"{}\" is not UTF-8; rename its folder",
                              index_.string(), name));
    }
  }
  classes_ = std::move(classes);
}

void PackWriter::next_shard() {
  COMBA_CHECK(shards_.size() < std::numeric_limits<uint16_t>::max(),
              "writing {}: more shards than {}", index_.string(),
              std::numeric_limits<uint16_t>::max());
  shards_.push_back(std::make_unique<GrowingFile>(partial_path(index_, shards_.size()), 0));
}

PackProgress PackWriter::save() {
  PackProgress progress;
  for (const auto& shard : shards_) {
    shard->sync();
    progress.shards.push_back(shard->position());
  }
  progress.records = records_.substr(std::exchange(saved_records_, records_.size()));
  progress.paths = paths_.substr(std::exchange(saved_paths_, paths_.size()));
  keep_ = true;
  return progress;
}

void PackWriter::go_on(PackProgress earlier) {
  keep_ = true;
  for (size_t i = 0; i < earlier.shards.size(); ++i) {
    const fs::path partial = partial_path(index_, i), whole = shard_path(index_, i);
    std::error_code none;
    // It may have ended between two renames of finish().
    const bool named = !fs::exists(partial) && fs::file_size(whole, none) == earlier.shards[i];
    shards_.push_back(std::make_unique<GrowingFile>(named ? whole : partial, earlier.shards[i]));
  }
  records_ = std::move(earlier.records);
  paths_ = std::move(earlier.paths);
  saved_records_ = records_.size();
  saved_paths_ = paths_.size();
  count_ = records_.size() / sizeof(Record);
}

void PackWriter::add(std::string_view image, int width, int height, int64_t label,
                     const std::string& path) {
  COMBA_CHECK(width > 0 && height > 0 && width <= 65535 && height <= 65535,
              "packing {}: {} x {} pixels, expected 1 .. 65535", path, width, height);
  COMBA_CHECK(image.size() <= std::numeric_limits<uint32_t>::max() &&
                  paths_.size() + path.size() < std::numeric_limits<uint32_t>::max(),
              "packing {}: too large", path);
  if (shards_.empty() || shards_.back()->position() + image.size() > shard_bytes_) {
    next_shard();
  }
  GrowingFile& shard = *shards_.back();
  static constexpr char kZeros[kAlignment] = {};
  shard.write(kZeros, (kAlignment - shard.position() % kAlignment) % kAlignment);
  const Record entry{shard.position(),
                     static_cast<uint32_t>(image.size()),
                     crc32c(as_bytes(image)),
                     static_cast<int32_t>(label),
                     static_cast<uint32_t>(paths_.size()),
                     static_cast<uint16_t>(width),
                     static_cast<uint16_t>(height),
                     static_cast<uint16_t>(shards_.size() - 1),
                     0};
  shard.write(image.data(), image.size());
  records_.append(reinterpret_cast<const char*>(&entry), sizeof entry);
  paths_.append(path).push_back('\0');
  ++count_;
}

void PackWriter::add_again(int64_t label) {
  COMBA_CHECK(count_ > 0, "packing {}: there is no image to add again", index_.string());
  Record entry{};
  std::memcpy(&entry, records_.data() + records_.size() - sizeof entry, sizeof entry);
  entry.label = static_cast<int32_t>(label);
  records_.append(reinterpret_cast<const char*>(&entry), sizeof entry);
  ++count_;
}

void PackWriter::forget(size_t count) {
  COMBA_CHECK(count <= count_, "packing {}: {} records cannot be taken back of {}", index_.string(),
              count, count_);
  records_.resize(records_.size() - count * sizeof(Record));
  count_ -= count;
}

void PackWriter::commit_shards() {
  for (const auto& shard : shards_) {
    shard->sync();
  }
  fs::remove(index_);
  size_t number = 0;
  for (const auto& shard : shards_) {
    shard->rename(shard_path(index_, number++));
  }
  while (fs::remove(shard_path(index_, number))) {  // those of a larger pack that was there
    ++number;
  }
}

void PackWriter::finish(std::string_view attachment) {
  commit_shards();
  nlohmann::ordered_json table;
  table["classes"] = classes_;
  table["shards"] = nlohmann::json::array();
  for (const auto& shard : shards_) {
    table["shards"].push_back(shard->position());
  }
  const std::string json = table.dump();
  std::string body = records_;
  body.append(attachment).append(json).append(paths_);
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = attachment.empty() ? kPlain : kAttached;
  header.crc = crc32c(as_bytes(body));
  header.records = count_;
  header.json_bytes = json.size();
  header.path_bytes = paths_.size();
  header.attachment_bytes = attachment.size();
  // Its name does not change from run to run, so that one that was killed leaves nothing behind.
  GrowingFile file(index_.string() + ".partial", 0);
  file.write(&header, sizeof header);
  file.write(body.data(), body.size());
  file.rename(index_);
  keep_ = true;
}

}  // namespace comba::datasets
