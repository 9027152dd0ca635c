// The CUDA side of adamw.h.
#pragma once

#include "kernels/optimizer/adamw.h"

namespace comba::kernels {

// fp32 tensors of one CUDA device, and where they are to be written, contiguous.
bool takes_step(at::TensorList tensors, bool written);
at::Tensor total_norm_cuda(at::TensorList tensors);
void adamw_cuda_(at::TensorList parameters, at::TensorList gradients, at::TensorList means,
                 at::TensorList squares, const AdamwStep& step, const AdamwOptions& options);

}  // namespace comba::kernels
