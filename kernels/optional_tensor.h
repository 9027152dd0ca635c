// Tensors that an operator may be called without.
#pragma once

#include <optional>

#include <ATen/core/Tensor.h>

namespace comba::kernels {

using OptionalTensor = std::optional<at::Tensor>;

// Nothing for a tensor that is not defined, as autograd keeps one that was not given.
inline OptionalTensor optional(const at::Tensor& x) {
  return x.defined() ? OptionalTensor(x) : OptionalTensor();
}

}  // namespace comba::kernels
