#include "vision/base/log.h"

#include "vision/base/error.h"

#include <cstdio>
#include <memory>
#include <mutex>

namespace comba::log {
namespace {

struct State {
  std::mutex mutex;
  Level level = Level::info;
  Sink sink;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file{nullptr, &std::fclose};
};

State& state() {
  static State* instance = new State;  // never destroyed: logging works in static destructors
  return *instance;
}

const char* prefix(Level level) {
  switch (level) {
    case Level::error:
      return "error: ";
    case Level::warning:
      return "warning: ";
    case Level::debug:
      return "debug: ";
    default:
      return "";
  }
}

}  // namespace

void set_level(Level level) {
  const std::lock_guard lock(state().mutex);
  state().level = level;
}

Sink set_sink(Sink sink) {
  const std::lock_guard lock(state().mutex);
  std::swap(state().sink, sink);
  return sink;
}

void set_file(const std::string& path) {
  const std::lock_guard lock(state().mutex);
  state().file.reset(path.empty() ? nullptr : std::fopen(path.c_str(), "a"));
  if (!path.empty() && !state().file) {
    throw Error(fmt::format("opening the log file {}: cannot write there", path));
  }
}

void write(Level level, std::string_view message) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  if (level < s.level) {
    return;
  }
  const std::string line = fmt::format("{}{}", prefix(level), message);
  if (s.sink) {
    s.sink(level, line);
  } else {
    fmt::print(stderr, "{}\n", line);
  }
  if (s.file) {
    fmt::print(s.file.get(), "{}\n", line);
    std::fflush(s.file.get());
  }
}

}  // namespace comba::log
