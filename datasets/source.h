// Where labelled images come from: folders, packs, tar archives.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace comba::datasets {

// One encoded image. `bytes` points into `storage` or into a map owned by the source.
struct EncodedSample {
  std::span<const uint8_t> bytes;
  std::vector<uint8_t> storage;
  int64_t label = 0;
  std::string name;  // path or "pack.comba[17] original/path.jpg", for messages
};

// Immutable after construction; read() may be called from many threads.
class ImageSource {
 public:
  virtual ~ImageSource() = default;
  virtual int64_t size() const = 0;
  virtual EncodedSample read(int64_t index) const = 0;
  virtual int64_t label(int64_t index) const = 0;               // without reading the image
  virtual std::string name(int64_t index) const = 0;            // for messages
  virtual std::string original(int64_t index) const = 0;        // path below the source's root
  virtual const std::vector<std::string>& classes() const = 0;  // sorted; label = position
  virtual std::string fingerprint() const = 0;  // changes when the content list changes
};

// source.read(index), whose errors come as ImageErrors of the kind "unreadable".
EncodedSample read_or_reject(const ImageSource& source, int64_t index);

// Opens `path`: a pack, a tar archive or a pattern such as train-{000..099}.tar of them (see tar_source.h), or a folder: of
// class folders, of tar archives, or flat with a file of labels (see listed_folder.h). `split` ("train", "test", "val" or "")
// picks a part of a folder that holds several: SPLIT.pack, the folder SPLIT, ILSVRC/Data/CLS-LOC/SPLIT as Kaggle lays ImageNet
// out, SPLIT.tar, or the archives SPLIT-*.tar.
std::unique_ptr<ImageSource> open_images(const std::filesystem::path& path,
                                         const std::string& split = {});

}  // namespace comba::datasets
