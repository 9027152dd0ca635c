// comba::patch_rows by LibTorch's operators, for what a device has no kernel of its own for.
#pragma once

#include <ATen/core/Tensor.h>

namespace comba::kernels {

at::Tensor compose_patch_rows(const at::Tensor& images, int64_t patch, at::ScalarType dtype);
// As an operator has to give it: memory of its own.
at::Tensor own_patch_rows(const at::Tensor& images, int64_t patch, at::ScalarType dtype);

}  // namespace comba::kernels
