// The files of a zip archive, where they lie in it (PKWARE's APPNOTE 6.3.10; with its 64-bit sizes, which LibTorch writes). Only what
// is stored as it is, on one disk. No torch. LibTorch's own reader believes the sizes that an archive
// claims: it allocates any number of bytes for a damaged one.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>

namespace comba::vision {

// By name; nothing for files that are compressed or encrypted. Spans lie in `archive`, and may overlap in a bad one. Checksums are not
// looked at: torch.save may leave them out.
// `origin` is for messages. Throws Error naming the file in the archive, what was expected and found.
std::map<std::string, std::optional<std::span<const uint8_t>>> list_zip(
    std::span<const uint8_t> archive, const std::string& origin);

}  // namespace comba::vision
