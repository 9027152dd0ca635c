// The scan kernels for one instruction set; the build gives this file its flags.
#include "kernels/cpu/scan_kernel.h"

namespace comba::kernels::isa_avx512 {

CpuKernels<float> float_kernels() { return kernels_of<float, 16, 4>(); }

}  // namespace comba::kernels::isa_avx512
