// Runs a tracker over the sequences of a benchmark and leaves its results in the official layouts.
#pragma once

#include "tracking/benchmark.h"
#include "tracking/tracker.h"

#include <filesystem>
#include <functional>
#include <memory>
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
  std::vector<c10::Device> workers = {c10::kCPU};  // the device of each; each tracks a sequence
  int decoders = 1;  // threads of each worker that read frames ahead of its tracker
};

// Seconds of all workers together, but for `wall`.
struct BenchmarkTimes {
  int64_t frames = 0, skipped_sequences = 0;
  double waiting = 0;                      // for the next frame
  double crop = 0, network = 0, rest = 0;  // of the tracker
  double decode = 0;                       // reading and decoding, by the threads that do it ahead
  double wall = 0;
};
// "decoding", "crops", "network" or "the rest": where the workers spend most of their time.
std::string bottleneck(const BenchmarkTimes& times);

// The longest sequences come first. One that has whole results that begin with its first box is left alone; results are written
// whole or not at all, and depend on nothing but the sequence and the tracker. At most ten frames a worker are in memory.
// `make_tracker` is called once for a worker that has work, one after the other, before the first frame; `done(finished frames)`
// from any thread. A sequence that fails has no results, the others are tracked; then Error names the first that failed and why.
BenchmarkTimes run_benchmark(
    const std::vector<Assignment>& assignments, const BenchmarkRun& run,
    const std::function<std::unique_ptr<Tracker>(const c10::Device&)>& make_tracker,
    const std::function<void(int64_t)>& done);

}  // namespace comba::tracking
