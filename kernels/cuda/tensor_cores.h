// Which scans the tensor cores take, for the CUDA backends.
#pragma once

#include "kernels/scan_problem.h"

namespace comba::kernels::cuda {

// Within one chunk the exact walks are as fast. The rest is what tensor_block.cuh and tensor_float.cuh are built for: equal
// widths of 32, 64 or 128, rows that 16-byte copies can read.
bool takes_tensor_cores(const ScanProblem& problem);

}  // namespace comba::kernels::cuda
