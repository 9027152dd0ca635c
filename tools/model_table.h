// comba info --table: sizes and costs of several models, what was measured of them and what others have published.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace comba::tools {

constexpr int64_t kImageNetClasses = 1000;  // where the configuration leaves the number to the data

struct ModelTableOptions {
  std::vector<std::string> configs;      // empty: all that are shipped
  std::vector<std::string> assignments;  // KEY=VALUE for each of them
  bool measure = false;                  // forward passes, on `device`
  std::string device = "auto";
  int64_t batch = 0;  // images of a forward pass; 0: 256 on a GPU, 8 on the CPU
  int repeats = 10;
  bool markdown = false;
  std::string json;  // file; empty: none
};

void print_model_table(const ModelTableOptions& options);

}  // namespace comba::tools
