// The keys of distillation.
#pragma once

#include "vision/base/config.h"

#include <string>

namespace comba::classify {

struct DistillOptions {
  std::string teacher;        // run folder or weights; empty: no teacher
  std::string config;         // of weights whose file has none
  std::string kind = "hard";  // hard | soft
  double weight = 0.5;        // of the teacher's part of the loss
  double temperature = 3.0;   // of soft
};

// Registers the keys under "distill." in the table.
void declare(ConfigTable& table, DistillOptions& options);

}  // namespace comba::classify
