// The launch of comba::patch_rows: pointers and sizes, no torch.
#pragma once

#include "kernels/block/element_kind.h"

#include <cstdint>

#include <cuda_runtime_api.h>

namespace comba::kernels::cuda {

struct PatchParams {
  const float* images = nullptr;  // [batch, channels, height, width] contiguous
  void* rows = nullptr;           // half width
  int64_t batch = 0;
  int channels = 0, height = 0, width = 0,
      patch = 0;  // patch: a multiple of 8 that divides both sides
};

cudaError_t launch_patch_rows(Element element, const PatchParams& p, cudaStream_t stream);

}  // namespace comba::kernels::cuda
