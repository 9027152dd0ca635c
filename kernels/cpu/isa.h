// Which instruction set the CPU kernels use.
#pragma once

namespace comba::kernels {

enum class CpuIsa { baseline, avx2, avx512 };

// The best one this CPU has; COMBA_CPU_ISA=default|avx2|avx512 asks for a lesser one. Fixed at first use.
CpuIsa cpu_isa();
const char* isa_name(CpuIsa isa);

}  // namespace comba::kernels
