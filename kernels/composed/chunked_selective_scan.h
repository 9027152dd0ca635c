// The recurrence of kernels/selective_scan/selective_scan.h in LibTorch's own operations: for graphs that have to run without our
// operators. T tokens are cut into about sqrt(T) chunks of as many. Token by token, all chunks at once, states run as if nothing
// stood before their chunk; chunk by chunk, the states before each are made of those; and what they decay to, by the exponential
// of a sum, is added to all tokens. Nothing is ever divided by a decay, so that states may vanish as fast as they like.
#pragma once

#include "kernels/selective_scan/selective_scan.h"

namespace comba::kernels {

// As selective_scan() for T >= 1, in fp32 (fp64 for fp64 inputs). Differentiable as its operations are. [B, T, C, N] numbers are
// held several times.
at::Tensor chunked_selective_scan(const SelectiveScanInputs& inputs, bool reverse);

}  // namespace comba::kernels
