#include "datasets/pixel_kernels_impl.h"

namespace comba::datasets {

#ifdef __x86_64__
const PixelKernels& avx2_pixel_kernels();
#endif

const PixelKernels& pixel_kernels() {
#ifdef __x86_64__
  static const bool has_avx2 = __builtin_cpu_supports("avx2") != 0;
  if (has_avx2) {
    return avx2_pixel_kernels();
  }
#endif
  return kKernels;
}

}  // namespace comba::datasets
