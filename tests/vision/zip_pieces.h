// Zip archives by hand, good and bad.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace comba::testing_tools {

struct ZipFile {
  std::string name, content = {};
  uint64_t flags = 0, method = 0;  // 0: stored
  int64_t lie = 0;                 // added to the size in the directory
  bool large = false;              // sizes and place in the 64-bit extra field
  bool same_place = false;         // the directory points to the first file
};

inline std::string little_endian(uint64_t value, int bytes) {
  std::string result;
  for (int i = 0; i < bytes; ++i) {
    result += static_cast<char>(value >> (8 * i) & 0xff);
  }
  return result;
}

inline std::string zip(const std::vector<ZipFile>& files, const std::string& comment = "") {
  std::string archive, directory;
  for (const ZipFile& file : files) {
    const uint64_t at = file.same_place ? 0 : archive.size();
    const uint64_t stored = file.content.size();
    const uint64_t size = stored + static_cast<uint64_t>(file.lie);
    archive +=
        std::string("PK\x03\x04") + std::string(22, '\0') + little_endian(file.name.size(), 2);
    archive += little_endian(0, 2) + file.name + file.content;
    std::string extra = std::string("zz") + little_endian(1, 2) + "z";
    if (file.large) {
      extra += little_endian(1, 2) + little_endian(24, 2) + little_endian(size, 8);
      extra += little_endian(size, 8) + little_endian(at, 8);
    }
    const auto field = [&](uint64_t value) {
      return little_endian(file.large ? 0xffffffff : value, 4);
    };
    directory += std::string("PK\x01\x02") + little_endian(0, 4) + little_endian(file.flags, 2);
    directory += little_endian(file.method, 2) + little_endian(0, 8) + field(size) + field(size);
    directory += little_endian(file.name.size(), 2) + little_endian(extra.size(), 2);
    directory += std::string(10, '\0') + field(at) + file.name + extra;
  }
  const uint64_t start = archive.size();
  archive += directory + "PK\x05\x06" + little_endian(0, 4) + little_endian(files.size(), 2);
  archive += little_endian(files.size(), 2) + little_endian(directory.size(), 4);
  return archive + little_endian(start, 4) + little_endian(comment.size(), 2) + comment;
}

}  // namespace comba::testing_tools
