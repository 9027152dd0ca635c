// The last step of sums over tokens: partial sums of a launch's blocks, added up in a fixed order. No torch.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace comba::kernels::cuda {

// [partials, columns] with rows `stride` floats apart -> [columns]
cudaError_t launch_sum_partials(const float* partial, int64_t partials, int64_t columns,
                                int64_t stride, float* out, cudaStream_t stream);

}  // namespace comba::kernels::cuda
