#include "kernels/cpu/scan_cpu.h"

#include "kernels/cpu/isa.h"
#include "kernels/scan_operators.h"

#include <cstdlib>
#include <string_view>

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

namespace comba::kernels {
namespace {

CpuIsa choose_isa() {
  CpuIsa best = CpuIsa::baseline;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    best = CpuIsa::avx2;
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")) {
    best = CpuIsa::avx512;
  }
#endif
  const char* wish = std::getenv("COMBA_CPU_ISA");
  if (wish == nullptr || *wish == '\0') {
    return best;
  }
  for (const CpuIsa isa : {CpuIsa::baseline, CpuIsa::avx2, CpuIsa::avx512}) {
    if (std::string_view(wish) == isa_name(isa)) {
      TORCH_CHECK(isa <= best, "COMBA_CPU_ISA=", wish, ": this CPU supports ", isa_name(best),
                  " at most");
      return isa;
    }
  }
  TORCH_CHECK(false, "COMBA_CPU_ISA: expected default, avx2 or avx512, got \"", wish, "\"");
}

// q, k, v in the accumulation dtype (no copy for fp32 and fp64).
ScanProblem widened(const ScanProblem& problem) {
  const auto widen = [&](const at::Tensor& x) {
    if (x.scalar_type() == problem.accum_dtype()) {
      return x;
    }
    const bool shared = x.stride(0) == 0 && x.size(0) == 2;
    return shared ? x[0].to(problem.accum_dtype()).contiguous().unsqueeze(0).expand(x.sizes())
                  : x.to(problem.accum_dtype()).contiguous();
  };
  ScanProblem wide = problem;
  wide.q = widen(problem.q);
  wide.k = widen(problem.k);
  wide.v = widen(problem.v);
  return wide;
}

template <typename Accum>
void forward_as(const ScanProblem& problem, const ScanResult& result) {
  const ScanParams<Accum> params = make_params<Accum>(problem);
  const ScanOutputs<Accum> outputs{result.o.data_ptr<Accum>(),
                                   result.final_state.data_ptr<Accum>()};
  at::parallel_for(0, params.tasks(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      cpu_kernels<Accum>().forward(params, outputs, task);
    }
  });
}

template <typename Accum>
void backward_as(const ScanProblem& problem, const at::Tensor& grad_o,
                 const at::Tensor& grad_final_state, const ScanGradientResult& result) {
  const ScanParams<Accum> params = make_params<Accum>(problem);
  const ScanGradients<Accum> gradients = make_gradients<Accum>(result, grad_o, grad_final_state);
  at::parallel_for(0, params.tasks(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      cpu_kernels<Accum>().backward(params, gradients, task);
    }
  });
}

void forward(const ScanProblem& problem, const ScanResult& result) {
  const ScanProblem wide = widened(problem);
  wide.accum_dtype() == at::kDouble ? forward_as<double>(wide, result)
                                    : forward_as<float>(wide, result);
}

void backward(const ScanProblem& problem, const at::Tensor& grad_o,
              const at::Tensor& grad_final_state, const ScanGradientResult& result) {
  const ScanProblem wide = widened(problem);
  wide.accum_dtype() == at::kDouble ? backward_as<double>(wide, grad_o, grad_final_state, result)
                                    : backward_as<float>(wide, grad_o, grad_final_state, result);
}

constexpr ScanBackend kBackend{&forward, &backward};

}  // namespace

template <>
const CpuKernels<float>& cpu_kernels<float>() {
  static const CpuKernels<float> kernels = [] {
    switch (cpu_isa()) {
#if defined(__x86_64__)
      case CpuIsa::avx512:
        return isa_avx512::float_kernels();
      case CpuIsa::avx2:
        return isa_avx2::float_kernels();
#endif
      default:
        return isa_default::float_kernels();
    }
  }();
  return kernels;
}

template <>
const CpuKernels<double>& cpu_kernels<double>() {
  static const CpuKernels<double> kernels = isa_default::double_kernels();
  return kernels;
}

CpuIsa cpu_isa() {
  static const CpuIsa isa = choose_isa();
  return isa;
}

const char* isa_name(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::avx512:
      return "avx512";
    case CpuIsa::avx2:
      return "avx2";
    default:
      return "default";
  }
}

TORCH_LIBRARY_IMPL(comba, CPU, m) { register_scan_operators<&kBackend>(m); }

}  // namespace comba::kernels
