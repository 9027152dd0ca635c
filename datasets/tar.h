// Listing tar archives: POSIX ustar and pax (IEEE Std 1003.1-2017, pax, "Interchange Format"), and GNU's long names and sizes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace comba::datasets {

// A regular file in an archive.
struct TarMember {
  std::string path;
  uint64_t offset, size;  // of its content, bytes
};

// In the archive's order. Every header is verified. Throws Error naming the archive, the offset of the header and what is
// wrong with it: a checksum or number that is none, content beyond the archive's end, no end mark (it is cut short), anything
// behind that mark, links and sparse files.
std::vector<TarMember> list_tar(std::span<const uint8_t> archive, const std::string& name);

}  // namespace comba::datasets
