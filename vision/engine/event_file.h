// Scalars for TensorBoard: an event file of TFRecords that hold tensorflow.Event messages (event.proto and summary.proto of
// TensorBoard 2.21, of which three fields are enough).
#pragma once

#include "vision/engine/task.h"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

namespace comba::vision {

class EventFile {
 public:
  // Begins events.out.tfevents.<seconds>.<host>.<process> in `folder`. What earlier files of the folder say of steps behind
  // `first_step` TensorBoard shows no more, as a run that resumes goes over them again.
  EventFile(const std::filesystem::path& folder, int64_t first_step);
  // For tests: the file itself and the time that all its events have.
  EventFile(const std::filesystem::path& file, int64_t first_step, double time);

  // A failure, say of a full disk, is warned of once; the file then has no more.
  void add(int64_t step, const Metrics& scalars);
  const std::filesystem::path& path() const { return path_; }

 private:
  void write(const std::string& event);
  double now() const;

  std::filesystem::path path_;
  std::ofstream file_;
  double fixed_time_ = 0.0;
  bool failed_ = false;
};

}  // namespace comba::vision
