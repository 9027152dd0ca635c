// What a run leaves to read: metrics.jsonl (one line per interval and per epoch), results.csv (one row per
// epoch), report.html, and event files for TensorBoard.
#pragma once

#include "vision/engine/event_file.h"
#include "vision/engine/task.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace comba::vision {

struct IntervalRecord {
  int64_t step = 0, epoch = 0;
  double loss = 0.0, lr = 0.0, gradient_norm = 0.0;
  double images_per_second = 0.0;
  double data_wait = 0.0;  // share of the interval spent waiting for data
  Metrics data_stages;     // shares of the interval, see Task::data_stage_seconds()
  int64_t skipped = 0;     // steps of the interval that were not finite; the loss is the others'
  int64_t memory = 0;      // bytes that LibTorch has of the GPU's memory
};

struct EpochRecord {
  int64_t step = 0, epoch = 0;
  double train_loss = 0.0, lr = 0.0, seconds = 0.0, images_per_second = 0.0;
  Metrics raw, average;  // empty: not evaluated in this epoch
};

class RunLog {
 public:
  // resume_step < 0 starts anew; else the records up to that step are kept and later ones dropped.
  RunLog(std::filesystem::path folder, int64_t resume_step, bool tensorboard);
  void add(const IntervalRecord& record);
  void add(const EpochRecord& record);
  const std::vector<EpochRecord>& epochs() const { return epochs_; }
  // Sections: title and HTML, in order, after the curves.
  void write_report(const std::string& title, const std::string& config,
                    const std::vector<std::pair<std::string, std::string>>& sections);

 private:
  void read_back(int64_t resume_step);
  void append(const std::string& line);
  void write_results();

  std::filesystem::path folder_;
  std::vector<IntervalRecord> intervals_;
  std::vector<EpochRecord> epochs_;
  std::optional<EventFile> events_;
  bool warned_ = false;
};

}  // namespace comba::vision
