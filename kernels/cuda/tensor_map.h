// Descriptions of q, k and v for the tensor memory accelerator (sm_90): chunks of rows, swizzled as row_piece() does.
#pragma once

#include "kernels/scan_params.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

namespace comba::kernels::cuda {

struct RowMaps {
  CUtensorMap key, query, value;
};

struct BackwardMaps {
  RowMaps rows;
  CUtensorMap grad_o;
};

// Boxes of `rows` tokens of one (batch, head), `dim` (32 or 64) half-width elements each; tokens past the end are zeros.
// False where the device or the strides do not allow it: rows are then copied by threads.
inline bool encode_rows(CUtensorMap& map, const void* data, const RowStrides& strides,
                        const ScanParams<float>& p, int dim, int rows) {
  using Encode = decltype(&cuTensorMapEncodeTiled);
  static const auto encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                                12000, cudaEnableDefault, &found);
    return status == cudaSuccess && found == cudaDriverEntryPointSuccess
               ? reinterpret_cast<Encode>(function)
               : nullptr;
  }();
  if (encode == nullptr) {
    return false;
  }
  const auto size = [](int64_t n) { return static_cast<cuuint64_t>(n); };
  const cuuint64_t sizes[] = {size(dim), size(p.heads), size(p.length), size(p.batch)};
  // Of a dimension of one element any stride will do.
  const auto bytes = [&](int64_t count, int64_t stride) {
    return size(count == 1 ? 2 * dim : 2 * stride);
  };
  const cuuint64_t steps[] = {bytes(p.heads, strides.head), bytes(p.length, strides.time),
                              bytes(p.batch, strides.batch)};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(dim), 1, static_cast<cuuint32_t>(rows), 1};
  const cuuint32_t every[] = {1, 1, 1, 1};
  for (const cuuint64_t step : steps) {
    if (step == 0 || step >= cuuint64_t{1} << 40) {
      return false;
    }
  }
  return encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 4, const_cast<void*>(data), sizes, steps, box,
                every, CU_TENSOR_MAP_INTERLEAVE_NONE,
                dim == 32 ? CU_TENSOR_MAP_SWIZZLE_64B : CU_TENSOR_MAP_SWIZZLE_128B,
                CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}
inline bool encode_rows(RowMaps& maps, const ScanParams<float>& p, int dim, int rows) {
  int device = 0, major = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  return major >= 9 && (dim == 32 || dim == 64) &&
         encode_rows(maps.key, p.k, p.k_strides, p, dim, rows) &&
         encode_rows(maps.query, p.q, p.q_strides, p, dim, rows) &&
         encode_rows(maps.value, p.v, p.v_strides, p, dim, rows);
}
inline bool encode_rows(BackwardMaps& maps, const ScanParams<float>& p, const void* grad_o,
                        const RowStrides& strides, int dim, int rows) {
  return encode_rows(maps.rows, p, dim, rows) &&
         encode_rows(maps.grad_o, grad_o, strides, p, dim, rows);
}

}  // namespace comba::kernels::cuda
