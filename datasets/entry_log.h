// A file of entries, each whole or absent: what was appended before a crash is found again by the next run.
//
// An entry is u64 bytes of its content, u32 crc32c of it, u32 zero, the content; numbers little-endian.
#pragma once

#include "vision/base/files.h"

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace comba::datasets {

class EntryLog {
 public:
  // The entries that are there; none for a file that is absent. What follows the last whole one is cut off.
  explicit EntryLog(const std::filesystem::path& path);
  const std::vector<std::string>& entries() const { return entries_; }
  void append(std::string_view content);  // on the disk when this returns
  void remove();                          // the file

 private:
  std::vector<std::string> entries_;
  std::unique_ptr<GrowingFile> file_;
};

}  // namespace comba::datasets
