// The CPU scan, compiled once per instruction set (scan_default.cpp, scan_avx2.cpp, scan_avx512.cpp).
#pragma once

#include "kernels/scan_params.h"

namespace comba::kernels {

// q, k, v in the accumulation type. Both run one task; tasks are independent and may run in parallel.
template <typename Accum>
struct ScanCpuKernels {
  void (*forward)(const ScanParams<Accum>& params, const ScanOutputs<Accum>& outputs, int64_t task);
  void (*backward)(const ScanParams<Accum>& params, const ScanGradients<Accum>& gradients,
                   int64_t task);
};

namespace isa_default {
ScanCpuKernels<float> float_kernels();
ScanCpuKernels<double> double_kernels();
}  // namespace isa_default
namespace isa_avx2 {
ScanCpuKernels<float> float_kernels();
}
namespace isa_avx512 {
ScanCpuKernels<float> float_kernels();
}

}  // namespace comba::kernels
