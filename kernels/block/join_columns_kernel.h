// The launch of comba::join_columns: pointers and sizes, no torch.
#pragma once

#include "kernels/block/element_kind.h"

#include <cstdint>

#include <cuda_runtime_api.h>

namespace comba::kernels::cuda {

constexpr int kJoinPiece = 8;  // columns of a thread

struct JoinParams {
  const void* first =
      nullptr;  // [rows, first_width] of half width, as `out`; first_width: of whole pieces
  const float* second = nullptr;  // [rows, second_width]
  void* out = nullptr;            // [rows, width]; width: of whole pieces
  int64_t rows = 0;
  int first_width = 0, second_width = 0, width = 0;
};

cudaError_t launch_join_columns(Element element, const JoinParams& p, cudaStream_t stream);

}  // namespace comba::kernels::cuda
