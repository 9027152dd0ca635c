// A tar archive, whatever is in it: members that lie in it and images with labels, or an Error. The checksums of its headers are
// made right, or nothing would be read behind the first.
#include "datasets/tar.h"
#include "datasets/tar_source.h"
#include "tests/fuzz/fuzz_files.h"
#include "vision/base/error.h"

#include <span>
#include <string_view>

#include <fmt/format.h>

namespace {

constexpr size_t kBlock = 512, kChecksum = 148, kMagic = 257;
const std::filesystem::path kArchive = comba::fuzz::folder() / "a.tar";

void repair_checksums(std::string& archive) {
  for (size_t at = 0; at + kBlock <= archive.size(); at += kBlock) {
    if (archive.compare(at + kMagic, 5, "ustar") != 0) {
      continue;
    }
    archive.replace(at + kChecksum, 8, "        ");
    unsigned sum = 0;
    for (const char c : std::string_view(archive).substr(at, kBlock)) {
      sum += static_cast<unsigned char>(c);
    }
    archive.replace(at + kChecksum, 7, fmt::format("{:06o}", sum) + std::string(1, '\0'));
  }
}

std::string member(const std::string& name, const std::string& content, char type) {
  std::string header(kBlock, '\0');
  header.replace(0, name.size(), name);
  header.replace(124, 11, fmt::format("{:011o}", content.size()));
  header[156] = type;
  header.replace(kMagic, 5, "ustar");
  return header + content + std::string(kBlock - content.size(), '\0');
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const std::string end(2 * kBlock, '\0');
  comba::fuzz::add_to_corpus("classes",
                             member("1.jpg", "x", '0') + member("1.cls", "3", '0') + end);
  comba::fuzz::add_to_corpus(
      "json", member("2.png", "x", '0') + member("2.json", R"({"label": "a"})", '0') + end);
  comba::fuzz::add_to_corpus(
      "pax", member("p", "14 path=a/b.c\n9 size=1\n", 'x') + member("y", "x", '0') + end);
  comba::fuzz::add_to_corpus("gnu",
                             member("l", "folder/long.jpg", 'L') + member("y", "x", '0') + end);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string archive(reinterpret_cast<const char*>(data), size);
  repair_checksums(archive);
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(archive.data()), size);
  try {
    for (const auto& found : comba::datasets::list_tar(bytes, "a.tar")) {
      if (found.offset > size || found.size > size - found.offset) {
        std::abort();
      }
    }
    comba::fuzz::write(kArchive, archive);
    const auto source = comba::datasets::open_tars({kArchive});
    for (int64_t i = 0; i < source->size(); ++i) {
      const auto sample = source->read(i);
      uint8_t sum = 0;
      for (const uint8_t byte : sample.bytes) {
        sum ^= byte;
      }
      if (sample.label < 0 || sample.label >= static_cast<int64_t>(source->classes().size()) ||
          sample.name.size() + sum == 0) {
        std::abort();
      }
    }
  } catch (const comba::Error&) {
  }
  return 0;
}
