// Progress of long work on stderr: one redrawn line on a terminal, a plain line per interval elsewhere.
#pragma once

#include "vision/base/stopwatch.h"

#include <cstdint>
#include <string>

namespace comba {

class Progress {
 public:
  // `unit` names what is counted ("img"); total 0 means unknown. `before` were done by an earlier run.
  Progress(std::string title, int64_t total, std::string unit, int64_t before = 0);
  ~Progress();
  // Sets the absolute count done and a short note ("loss 0.31"); draws at most a few times a second.
  void update(int64_t done, const std::string& note = {});
  void finish(const std::string& note = {});
  // Items per second since construction, without those before.
  double rate() const;

 private:
  void draw(bool last);
  std::string title_, unit_, note_;
  int64_t total_, before_, done_;
  bool terminal_, finished_ = false;
  Stopwatch start_, drawn_;
};

// "1h 02m", "3m 07s", "12s".
std::string format_duration(double seconds);

}  // namespace comba
