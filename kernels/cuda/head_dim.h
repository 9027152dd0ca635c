// The head dimensions that the CUDA kernels are built for.
#pragma once

#include <cstdint>
#include <type_traits>

#include <cuda_runtime_api.h>

namespace comba::kernels::cuda {

// Calls body with the head dimension as a compile-time constant. The operators' checks admit no other.
template <typename Body>
cudaError_t with_head_dim(int64_t dim, const Body& body) {
  switch (dim) {
    case 16:
      return body(std::integral_constant<int, 16>());
    case 32:
      return body(std::integral_constant<int, 32>());
    case 64:
      return body(std::integral_constant<int, 64>());
    case 128:
      return body(std::integral_constant<int, 128>());
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace comba::kernels::cuda
