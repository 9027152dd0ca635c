// The kernel of comba::normalise_images (normalise.cu): pointers and sizes, no torch.
#pragma once

#include "kernels/image/normalise_plan.h"

#include <cuda_runtime_api.h>

namespace comba::kernels::image {

enum class OutputType { fp32, bf16, fp16 };

// Into out [images, channels, size, size].
cudaError_t launch_normalise(const NormaliseProblem& problem, OutputType type, void* out,
                             cudaStream_t stream);

}  // namespace comba::kernels::image
