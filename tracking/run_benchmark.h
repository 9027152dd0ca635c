// Runs a tracker over the sequences of a benchmark and leaves its results in the official layouts.
#pragma once

#include "tracking/benchmark.h"
#include "tracking/tracker.h"

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace comba::tracking {

// What is tracked: the first box, and the frames. GOT-10k's test split has no more than that.
struct Assignment {
  std::string name;
  FrameFiles frames;
  Box first;
};
std::vector<Assignment> got10k_assignments(const std::filesystem::path& folder);
std::vector<Assignment> lasot_assignments(const std::filesystem::path& folder);

struct BenchmarkRun {
  std::filesystem::path folder;  // of this tracker's results
  bool per_sequence = true;      // <seq>/<seq>_001.txt (GOT-10k), or else <seq>.txt
  int workers = 1;               // each with a tracker of its own
};

// Seconds of all frames together.
struct BenchmarkTimes {
  int64_t frames = 0, skipped_sequences = 0;
  double decode = 0, crop = 0, network = 0, wall = 0;
};

// A sequence that has whole results is left alone; results are written whole or not at all. `make_tracker` is called once a
// worker; `done(finished frames)` from any thread. Throws Error naming the first frame that cannot be read.
BenchmarkTimes run_benchmark(
    const std::vector<Assignment>& assignments, const BenchmarkRun& run,
    const std::function<std::unique_ptr<Tracker>(int worker)>& make_tracker,
    const std::function<void(int64_t)>& done);

}  // namespace comba::tracking
