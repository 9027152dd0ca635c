// The scan of the mixer's raw rows in one kernel, for the mixer's CUDA backend (tensor_convolution.cuh).
#pragma once

#include "kernels/scan_problem.h"

namespace comba::kernels::cuda {

// `raw`: q, k and v before their convolutions, shared by both directions; `taps` [2, 3, H, D, 4] fp32 contiguous.
// Returns o [2, B, T, H, D], or an undefined tensor where this kernel does not serve or is not faster: fp32, head
// dimension 128 and those that tensor cores do not take, a few tokens, more tasks than run at a time, or so long a
// sequence of so few heads that the scan cuts it. The bits are those of rows and scan apart.
at::Tensor convolved_scan(const ScanProblem& raw, const at::Tensor& taps, bool normalize);

}  // namespace comba::kernels::cuda
