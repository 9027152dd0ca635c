// Arguments of several whole numbers, as 256,197,3,64 or 1280x720.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace comba::tools {

// `count` numbers with one `separator` between each two; nothing if the text is anything else or a number has no room.
std::optional<std::vector<int64_t>> parse_numbers(std::string_view text, char separator,
                                                  size_t count);

// Width and height in pixels of `option`, given as 1280x720; a UsageError unless both are in smallest .. largest.
std::pair<int, int> parse_size(std::string_view option, std::string_view text, int smallest,
                               int largest);

}  // namespace comba::tools
