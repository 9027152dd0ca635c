// What `comba check` knows about whole models: outputs that the shipped weights gave where they were made, and the speed of
// machines that were measured.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::tools {

// The shipped tracker on made-up frames, beside what it answered in fp32 on a CPU.
struct CanaryRow {
  std::string device;
  double box = 0, score = 0;  // largest difference: px, and of the score
  double box_allowed = 0, score_allowed = 0;
  bool pass() const { return box <= box_allowed && score <= score_allowed; }  // false for NaN
};

// `record`: file of what is expected, tracking/weights/canary.json of the source tree. Throws Error if it cannot be read or
// was made with other weights.
std::vector<CanaryRow> check_canary(const std::filesystem::path& weights,
                                    const std::filesystem::path& record,
                                    const std::vector<at::Device>& devices);
void record_canary(const std::filesystem::path& weights, const std::filesystem::path& record);

// One figure of a device, milliseconds.
struct SpeedRow {
  std::string device, what;
  double milliseconds = 0;
  double expected = 0;           // of such a device; 0: it has not been measured
  std::string measured_on = {};  // where `nearest` was measured
  double nearest = 0;            // of the device it may be compared with
  bool slow() const { return expected > 0 && milliseconds > 1.5 * expected; }
};
std::vector<SpeedRow> measure_speed(const std::filesystem::path& weights,
                                    const std::vector<at::Device>& devices);

}  // namespace comba::tools
