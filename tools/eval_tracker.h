// comba eval of a tracker: weights and a benchmark in, result files and scores out.
#pragma once

#include <string>

namespace comba::tools {

struct TrackerEvaluation {
  std::string weights_path, weights = "auto", device = "auto";
  std::string benchmark;  // got10k or lasot
  std::string data;       // its folder
  std::string out = "results";
  std::string json;
  int workers = 1;
};
void evaluate_tracker(const TrackerEvaluation& arguments);

}  // namespace comba::tools
