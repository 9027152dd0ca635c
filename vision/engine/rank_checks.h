// That the ranks have not drifted apart.
#pragma once

#include "vision/engine/distributed.h"

#include <string>

#include <torch/nn/module.h>

namespace comba::vision {

// Compares the parameters and buffers of all ranks bit by bit with those of rank 0. Throws Error, on every rank, naming the
// first that differs and the ranks; `when` is part of the message.
void check_equal_weights(Ranks& ranks, const torch::nn::Module& model, const std::string& when);

}  // namespace comba::vision
