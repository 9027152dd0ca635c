// What a chunked kernel that keeps its tensors in a half-width type would give: the measure of how much error is due to
// the type. Chunks of 64 tokens as flash-linear-attention's kernels have them, in fp64 but for the tensors that such
// kernels store (inverse, W, U, V', S of each chunk, attention, outputs), which are rounded, and so are their gradients.
#pragma once

#include "tests/kernels/compare.h"

namespace comba::kernels::test {

// Values and gradients of the bidirectional scan with shared or own rows. `dtype`: that of the stored tensors; kDouble
// rounds nothing.
OperatorResult emulated_kernel(const ScanInputs& inputs, const at::Tensor& grad_o,
                               at::ScalarType dtype);

}  // namespace comba::kernels::test
