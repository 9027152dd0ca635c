#include "tools/forward_rate.h"

#include "tools/bench_timer.h"
#include "vision/engine/device_memory.h"

#include <ATen/core/grad_mode.h>

#ifdef COMBA_CUDA
#include <ATen/cuda/CUDAContextLight.h>
#endif

namespace comba::tools {

ForwardRate measure_forward(const std::function<at::Tensor()>& forward, vision::Precision precision,
                            const c10::Device& device, int repeats) {
#ifdef COMBA_CUDA
  if (device.is_cuda()) {
    at::cuda::
        clearCublasWorkspaces();  // 32 MiB for each stream used before, which are not this model's
  }
#endif
  vision::reset_peak_memory(device);
  const Timed run{[&](size_t) {
                    const at::NoGradGuard no_grad;
                    const vision::AutocastScope autocast(precision);
                    return std::vector<at::Tensor>{forward()};
                  },
                  1};
  const DeviceTimer timer{device, repeats};
  ForwardRate rate;
  rate.eager = timer.eager({run})[0];
  rate.peak_memory = vision::device_memory(device).peak_allocated;
  const std::vector<double> graph = timer.graph({run});
  rate.milliseconds = graph.empty() ? rate.eager : graph[0];
  return rate;
}

}  // namespace comba::tools
