// What is left of a step whose loss or gradients were not finite, for whoever looks for the reason.
#pragma once

#include "vision/engine/distributed.h"
#include "vision/engine/precision.h"
#include "vision/engine/task.h"

#include <cstdint>
#include <filesystem>
#include <string>

namespace comba::vision {

struct FailedStep {
  int64_t step = 0;                   // counted from 1
  int64_t epoch = 0, epoch_step = 0;  // of its batch, counted from 0
};

// Fetches the step's batch again and goes through it once, with the weights as they are, which skipped steps leave as they were.
// `folder` gets
//   report.txt         the loss, which gradients are not finite, the names of the batch's samples by rank
//   batch.safetensors  the batch of rank 0
//   model.safetensors  the weights
// On all ranks together; rank 0 writes. Returns what was not finite, in a line. A full disk is warned of.
std::string dump_failed_step(Task& task, const FailedStep& failed, Precision precision,
                             const std::filesystem::path& folder, Ranks& ranks);

}  // namespace comba::vision
