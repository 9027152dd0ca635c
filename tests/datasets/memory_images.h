// Images held in memory, for tests of what reads a source.
#pragma once

#include "datasets/source.h"
#include "tests/datasets/pictures.h"
#include "vision/base/error.h"

#include <string>
#include <utility>
#include <vector>

namespace comba::datasets {

// Labels are 0, 1, 0, 1, ...
class MemoryImages final : public ImageSource {
 public:
  struct File {
    std::string path, bytes;
  };
  explicit MemoryImages(std::vector<File> files) : files_(std::move(files)) {}

  int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  EncodedSample read(int64_t index) const override {
    COMBA_CHECK(index != unreadable, "reading {}: a bad sector", name(index));
    return {as_bytes(files_.at(index).bytes), {}, label(index), name(index)};
  }
  int64_t label(int64_t index) const override { return index % 2; }
  std::string name(int64_t index) const override { return "memory/" + original(index); }
  std::string original(int64_t index) const override { return files_.at(index).path; }
  const std::vector<std::string>& classes() const override { return classes_; }
  std::string fingerprint() const override { return fingerprint_; }
  int64_t unreadable = -1;  // the image whose read() fails
  void set_fingerprint(std::string text) { fingerprint_ = std::move(text); }

 private:
  std::vector<File> files_;
  std::vector<std::string> classes_{"even", "odd"};
  std::string fingerprint_ = "memory";
};

}  // namespace comba::datasets
