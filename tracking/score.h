// Scores of trackers from their result files, over a whole benchmark.
#pragma once

#include "tracking/got10k_score.h"
#include "tracking/lasot_score.h"

#include <string>

namespace comba::tracking {

struct TrackerResults {
  std::string name;
  std::filesystem::path folder;
};

// How results are taken.
struct ScoreOptions {
  bool partial = false;  // sequences without results are left out; otherwise they are an error
  int threads = 0;       // 0: as many as the machine has
};

// Frames a second as got-10k/toolkit has it, the mean of 1/t over frames with t > 0; 0 without times.
struct Got10kReport {
  std::string tracker;
  Got10kScore overall;
  double class_balanced_ao = 0, frames_per_second = 0;
  std::vector<Sequence> sequences;  // those that have results, without their boxes
  std::vector<Got10kScore> scores;  // of each
  std::vector<size_t> lengths;      // frames without the first, as the toolkit prints it
};
Got10kReport score_got10k(const std::vector<Sequence>& sequences, const TrackerResults& tracker,
                          const ScoreOptions& options);

struct LasotReport {
  std::string tracker;
  LasotProtocol protocol{};
  LasotCurves overall;
  double frames_per_second = 0;
  std::vector<Sequence> sequences;
  std::vector<LasotCurves> curves;
};
LasotReport score_lasot(const std::vector<Sequence>& sequences, const TrackerResults& tracker,
                        LasotProtocol protocol, const ScoreOptions& options);

}  // namespace comba::tracking
