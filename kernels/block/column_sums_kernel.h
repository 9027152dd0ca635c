// The launch of comba::column_sums: pointers and sizes, no torch.
#pragma once

#include "kernels/block/element_kind.h"

#include <cstdint>

#include <cuda_runtime_api.h>

namespace comba::kernels::cuda {

// x: [rows, width] contiguous, rows of whole 16 bytes; sums: [partials, width]
cudaError_t launch_column_sums(Element element, const void* x, int64_t rows, int64_t width,
                               int64_t partials, float* sums, cudaStream_t stream);
constexpr bool column_sums_takes(Element element, int64_t width) {
  return width % (element == Element::float32 ? 4 : 8) == 0;
}
int64_t column_sums_partials(Element element, int64_t rows, int64_t width);

}  // namespace comba::kernels::cuda
