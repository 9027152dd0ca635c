#include "tools/parse_numbers.h"

#include "vision/base/error.h"

#include <algorithm>
#include <charconv>
#include <system_error>

#include <fmt/format.h>

namespace comba::tools {

std::optional<std::vector<int64_t>> parse_numbers(std::string_view text, char separator,
                                                  size_t count) {
  std::vector<int64_t> numbers;
  while (true) {
    int64_t number = 0;
    const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc()) {
      return std::nullopt;
    }
    numbers.push_back(number);
    text.remove_prefix(static_cast<size_t>(rest - text.data()));
    if (text.empty()) {
      break;
    }
    if (text.front() != separator) {
      return std::nullopt;
    }
    text.remove_prefix(1);
  }
  return numbers.size() == count ? std::optional(numbers) : std::nullopt;
}

std::pair<int, int> parse_size(std::string_view option, std::string_view text, int smallest,
                               int largest) {
  const auto sides = parse_numbers(text, 'x', 2);
  if (!sides || std::ranges::min(*sides) < smallest || std::ranges::max(*sides) > largest) {
    throw UsageError(
        fmt::format("{}: expected WIDTHxHEIGHT, {} to {} pixels each, as in 1280x720, got \"{}\"",
                    option, smallest, largest, text));
  }
  return {static_cast<int>((*sides)[0]), static_cast<int>((*sides)[1])};
}

}  // namespace comba::tools
