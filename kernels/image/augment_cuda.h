// The kernels of comba::augment_images (augment.cu): pointers and sizes, no torch.
#pragma once

#include "kernels/image/augment_plan.h"

#include <cuda_runtime_api.h>

namespace comba::kernels::image {

// All buffers, sources and tasks on the device; the plan's own vectors are looked at here for sizes alone.
cudaError_t launch_augment(const AugmentPlan& plan, const AugmentBuffers& buffers,
                           cudaStream_t stream);

}  // namespace comba::kernels::image
