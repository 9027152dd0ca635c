// The pack: many encoded images in a few files, read through memory maps.
//
// NAME.pack is the index; NAME.pack.000, .001, ... are shards of about 1 GiB. All numbers little-endian.
//   index   64-byte header | records, 32 bytes each | attachment | JSON {"classes": [...], "shards": [bytes, ...]} | paths
//   header  "COMBAPK1", u32 version, u32 crc32c of all that follows it, u64 records, u64 JSON bytes, u64 path bytes,
//           u64 attachment bytes, 16 zero bytes
//   record  u64 offset in the shard, u32 length, u32 crc32c of the image, i32 label, u32 offset of its path,
//           u16 width, u16 height, u16 shard, u16 zero
//   paths   original paths, each ended by a zero byte
// Version 1 has no attachment; version 2 has one, whose meaning is its writer's. Several records may share an image.
// Images start at multiples of 64 bytes. The index is written last, so that a pack is whole or absent.
#pragma once

#include "datasets/source.h"
#include "vision/base/files.h"

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace comba::datasets {

constexpr uint64_t kShardBytes = uint64_t{1} << 30;

class Pack : public ImageSource {
 public:
  virtual std::span<const uint8_t> attachment() const = 0;  // in the map; empty if there is none
};

// Every offset, length, label and checksum of the index is verified here, each image's checksum when it is read.
// Throws Error naming the file, the record and what is wrong.
std::unique_ptr<Pack> open_pack(const std::filesystem::path& index);

// Makes the folder in which a pack is to lie, if there is none. Throws Error naming the path where that fails or where the
// index itself is a folder.
void make_place_for_pack(const std::filesystem::path& index);

// What a writer wrote between two moments.
struct PackProgress {
  std::vector<uint64_t> shards;  // bytes of each, at the second moment
  std::string records, paths;    // as they will be in the index
};

// Shards are NAME.pack.000.partial and so on until the pack is whole.
class PackWriter {
 public:
  PackWriter(std::filesystem::path index, std::vector<std::string> classes,
             uint64_t shard_bytes = kShardBytes);
  ~PackWriter();  // without finish(): removes what was written, unless it was saved
  // In the place of those given at first, where they are not known before the images.
  void name_classes(std::vector<std::string> classes);
  // Images in the order in which they are to be numbered.
  void add(std::string_view image, int width, int height, int64_t label, const std::string& path);
  // A record of its own for the image that was added last.
  void add_again(int64_t label);
  // Takes back the last `count` records; the bytes of their images stay, and nothing refers to them.
  void forget(size_t count);
  // Brings all images to the disk, where they now stay. Returns what is new since the last save(); not with forget().
  PackProgress save();
  // Goes on where another writer of the same pack stood: with all that its save() returned, joined. Before anything is added.
  void go_on(PackProgress earlier);
  // Commits the shards, then the index. Of a pack that was there before the index goes first, so that never an old index
  // stands beside new shards.
  void finish(std::string_view attachment = {});

 private:
  void next_shard();
  void commit_shards();

  std::filesystem::path index_;
  std::vector<std::string> classes_;
  uint64_t shard_bytes_;
  std::vector<std::unique_ptr<GrowingFile>> shards_;
  std::string records_, paths_;
  size_t saved_records_ = 0, saved_paths_ = 0;  // bytes of them
  uint64_t count_ = 0;
  bool keep_ = false;
};

}  // namespace comba::datasets
