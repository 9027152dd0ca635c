// Scores as JSON, CSV and one HTML page with success and precision plots; every one names its protocol.
#pragma once

#include "tracking/score.h"

#include <nlohmann/json_fwd.hpp>

namespace comba::tracking {

// "got10k", "lasot-matlab", "pytracking".
std::string protocol_name(LasotProtocol protocol);
LasotProtocol parse_protocol(const std::string& name);

// Several trackers, best first, over the sequences of one benchmark.
struct ScoreReports {
  std::string benchmark;  // "GOT-10k" or "LaSOT"
  std::vector<Got10kReport> got10k;
  std::vector<LasotReport> lasot;
};

// One row a tracker, as text for a terminal.
std::string score_table(const ScoreReports& reports);
nlohmann::ordered_json score_json(const ScoreReports& reports);
// One row a tracker and sequence.
std::string score_csv(const ScoreReports& reports);
void write_score_html(const std::filesystem::path& path, const ScoreReports& reports);

}  // namespace comba::tracking
