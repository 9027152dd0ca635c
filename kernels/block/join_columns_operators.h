// comba::join_columns by LibTorch's operators, for what a device has no kernel of its own for.
#pragma once

#include <ATen/core/Tensor.h>

namespace comba::kernels {

at::Tensor compose_join_columns(const at::Tensor& first, const at::Tensor& second,
                                int64_t multiple);
// The width of what they join to, checked.
int64_t joined_width(const at::Tensor& first, const at::Tensor& second, int64_t multiple);

}  // namespace comba::kernels
