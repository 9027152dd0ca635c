#include "vision/base/progress.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include <fmt/format.h>
#include <unistd.h>

namespace comba {
namespace {

constexpr double kTerminalInterval = 0.2, kLineInterval = 10;  // seconds

}  // namespace

Progress::Progress(std::string title, int64_t total, std::string unit, int64_t before)
    : title_(std::move(title)),
      unit_(std::move(unit)),
      total_(total),
      before_(before),
      done_(before),
      terminal_(::isatty(STDERR_FILENO) != 0) {}

Progress::~Progress() {
  if (!finished_ && terminal_) {
    std::fputs("\n", stderr);  // an exception passes: keep the last line
  }
}

void Progress::update(int64_t done, const std::string& note) {
  done_ = done;
  note_ = note;
  if (drawn_.seconds() >= (terminal_ ? kTerminalInterval : kLineInterval)) {
    draw(false);
  }
}

void Progress::finish(const std::string& note) {
  if (!finished_) {
    note_ = note.empty() ? note_ : note;
    draw(true);
    finished_ = true;
  }
}

double Progress::rate() const {
  const double seconds = start_.seconds();
  return seconds > 0 ? static_cast<double>(done_ - before_) / seconds : 0.0;
}

void Progress::draw(bool last) {
  drawn_.restart();
  std::string line = total_ > 0 ? fmt::format("{} {}/{} {}", title_, done_, total_, unit_)
                                : fmt::format("{} {} {}", title_, done_, unit_);
  line += fmt::format("  {:.0f} {}/s", rate(), unit_);
  if (last) {
    line += fmt::format("  in {}", format_duration(start_.seconds()));
  } else if (total_ > 0 && rate() > 0) {
    line += fmt::format("  ETA {}", format_duration(static_cast<double>(total_ - done_) / rate()));
  }
  if (!note_.empty()) {
    line += "  " + note_;
  }
  if (terminal_) {
    fmt::print(stderr, "\r\033[K{}{}", line, last ? "\n" : "");
    std::fflush(stderr);
  } else {
    fmt::print(stderr, "{}\n", line);
  }
}

std::string format_duration(double seconds) {
  const auto whole = static_cast<int64_t>(std::llround(std::max(0.0, seconds)));
  if (whole >= 3600) {
    return fmt::format("{}h {:02}m", whole / 3600, whole / 60 % 60);
  }
  if (whole >= 60) {
    return fmt::format("{}m {:02}s", whole / 60, whole % 60);
  }
  return fmt::format("{}s", whole);
}

}  // namespace comba
