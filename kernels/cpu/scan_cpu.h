// The CPU kernels, compiled once per instruction set (scan_default.cpp, scan_avx2.cpp, scan_avx512.cpp).
#pragma once

#include "kernels/mixer_params.h"
#include "kernels/scan_params.h"

namespace comba::kernels {

template <typename Accum>
struct CpuKernels {
  // q, k, v in the accumulation type. Both run one task; tasks are independent and may run in parallel.
  void (*forward)(const ScanParams<Accum>& params, const ScanOutputs<Accum>& outputs, int64_t task);
  void (*backward)(const ScanParams<Accum>& params, const ScanGradients<Accum>& gradients,
                   int64_t task);
  // mixer_kernel.h
  void (*convolve_sample)(const MixerRows<Accum>& params, int64_t direction, int64_t sample,
                          int64_t part, Accum* y);
  void (*normalize_rows)(Accum* rows, int64_t count, int64_t dim);
  void (*merge_norm_gate)(const MixerOutput<Accum>& params, const Accum* gate, int64_t first,
                          int64_t end);
};

// Those of this CPU.
template <typename Accum>
const CpuKernels<Accum>& cpu_kernels();
template <>
const CpuKernels<float>& cpu_kernels<float>();
template <>
const CpuKernels<double>& cpu_kernels<double>();

namespace isa_default {
CpuKernels<float> float_kernels();
CpuKernels<double> double_kernels();
}  // namespace isa_default
namespace isa_avx2 {
CpuKernels<float> float_kernels();
}
namespace isa_avx512 {
CpuKernels<float> float_kernels();
}

}  // namespace comba::kernels
