// Log lines on stderr; results belong on stdout.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace comba::log {

enum class Level { debug, info, warning, error };

// Lines below this level are dropped. Default: info.
void set_level(Level level);
// Replaces stderr as the destination (tests, run logs). An empty function restores stderr.
// Returns the previous sink.
using Sink = std::function<void(Level, std::string_view line)>;
Sink set_sink(Sink sink);
// Also appends every line to this file (a run's log.txt); an empty path stops that.
void set_file(const std::string& path);

void write(Level level, std::string_view message);

template <typename... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::debug, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::info, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::warning, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::error, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace comba::log
