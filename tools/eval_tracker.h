// comba eval of a tracker: weights and a benchmark in, result files and scores out.
#pragma once

#include <string>

namespace comba::tools {

struct TrackerEvaluation {
  std::string weights_path, weights = "auto";
  std::string device = "auto";  // or a list, "cuda:0,cuda:1"
  std::string benchmark;        // got10k or lasot
  std::string data;             // its folder
  std::string out = "results";
  std::string json;
  int workers = 0;  // sequences at a time; 0: one a GPU, or one a core
};
void evaluate_tracker(const TrackerEvaluation& arguments);

}  // namespace comba::tools
