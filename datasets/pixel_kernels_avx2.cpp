#include "datasets/pixel_kernels_impl.h"

namespace comba::datasets {

const PixelKernels& avx2_pixel_kernels() { return kKernels; }

}  // namespace comba::datasets
