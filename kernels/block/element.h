// The kernels' element types as LibTorch's dtypes.
#pragma once

#include "kernels/block/element_kind.h"

#include <optional>

#include <ATen/core/Tensor.h>

namespace comba::kernels::cuda {

// Nothing for dtypes the kernels do not take.
inline std::optional<Element> element_of(const at::Tensor& x) {
  switch (x.scalar_type()) {
    case at::kFloat:
      return Element::float32;
    case at::kHalf:
      return Element::float16;
    case at::kBFloat16:
      return Element::bfloat16;
    default:
      return std::nullopt;
  }
}

// Whether vectors of 16 bytes may be read from where the tensor begins; views may begin anywhere.
inline bool aligned(const at::Tensor& x) {
  return reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0;
}

}  // namespace comba::kernels::cuda
