// The scan kernels for one instruction set; the build gives this file its flags.
#include "kernels/cpu/scan_kernel.h"

namespace comba::kernels::isa_default {

CpuKernels<float> float_kernels() { return kernels_of<float, 4, 2>(); }
CpuKernels<double> double_kernels() { return kernels_of<double, 2, 2>(); }

}  // namespace comba::kernels::isa_default
