#include "tools/bench_timer.h"

#include "vision/base/stopwatch.h"

#include <algorithm>
#include <memory>

#ifdef COMBA_CUDA
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace comba::tools {
namespace {

constexpr int kWarmUps = 3;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

#ifdef COMBA_CUDA
template <typename Body>
double gpu_milliseconds(const Body& body) {
  at::cuda::CUDAEvent start(cudaEventDefault), end(cudaEventDefault);
  start.record();
  body();
  end.record();
  end.synchronize();
  return start.elapsed_time(end);
}

// All sets in one graph. An error leaves the stream as it was.
void record(at::cuda::CUDAGraph& graph, const Timed& candidate) {
  graph.capture_begin();
  try {
    for (size_t set = 0; set < candidate.sets; ++set) {
      candidate.run(set);
    }
  } catch (...) {
    try {
      graph.capture_end();
    } catch (const std::exception&) {  // the first error says what was wrong
    }
    throw;
  }
  graph.capture_end();
}
#endif

// Medians of candidates that take turns; `time(candidate, repeat)`.
template <typename Time>
std::vector<double> interleaved(size_t candidates, int repeats, const Time& time) {
  std::vector<std::vector<double>> all(candidates);
  for (int repeat = 0; repeat < repeats; ++repeat) {
    for (size_t i = 0; i < candidates; ++i) {
      all[i].push_back(time(i, static_cast<size_t>(repeat)));
    }
  }
  std::vector<double> medians;
  for (auto& values : all) {
    medians.push_back(median(std::move(values)));
  }
  return medians;
}

}  // namespace

bool is_out_of_memory(const c10::Error& error) {
  return dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
         error.msg().find("DefaultCPUAllocator: can't allocate memory") != std::string::npos;
}

double DeviceTimer::time(const Timed& candidate, size_t set) const {
#ifdef COMBA_CUDA
  if (device.is_cuda()) {
    return gpu_milliseconds([&] { candidate.run(set); });
  }
#endif
  const Stopwatch watch;
  candidate.run(set);
  return 1000 * watch.seconds();
}

std::vector<double> DeviceTimer::eager(const std::vector<Timed>& candidates) const {
  for (const Timed& candidate : candidates) {
    for (int i = 0; i < kWarmUps; ++i) {
      candidate.run(0);
    }
  }
  return interleaved(candidates.size(), repeats, [&](size_t i, size_t repeat) {
    return time(candidates[i], repeat % candidates[i].sets);
  });
}

std::vector<double> DeviceTimer::graph(
    [[maybe_unused]] const std::vector<Timed>& candidates) const {
#ifdef COMBA_CUDA
  if (device.is_cuda()) {
    std::vector<std::unique_ptr<at::cuda::CUDAGraph>> graphs;
    for (const Timed& candidate : candidates) {
      const auto stream = c10::cuda::getStreamFromPool(false, device.index());
      const c10::cuda::CUDAStreamGuard guard(stream);
      for (int i = 0; i < kWarmUps; ++i) {
        candidate.run(0);
      }
      stream.synchronize();
      graphs.push_back(std::make_unique<at::cuda::CUDAGraph>());
      record(*graphs.back(), candidate);
    }
    for (const auto& graph : graphs) {
      graph->replay();
    }
    c10::cuda::device_synchronize();
    std::vector<double> medians = interleaved(graphs.size(), repeats, [&](size_t i, size_t) {
      return gpu_milliseconds([&] { graphs[i]->replay(); });
    });
    for (size_t i = 0; i < medians.size(); ++i) {
      medians[i] /= static_cast<double>(candidates[i].sets);
    }
    return medians;
  }
#endif
  return {};
}

int64_t DeviceTimer::extra_memory([[maybe_unused]] const Timed& candidate) const {
#ifdef COMBA_CUDA
  if (device.is_cuda()) {
    namespace allocator = c10::cuda::CUDACachingAllocator;
    using Stats = c10::CachingDeviceAllocator::DeviceStats;
    const auto bytes = [&](const Stats& stats) { return stats.allocated_bytes[0]; };
    candidate.run(0);
    c10::cuda::device_synchronize();
    allocator::resetPeakStats(device.index());
    const std::vector<at::Tensor> results = candidate.run(0);
    const auto after = bytes(allocator::getDeviceStats(device.index()));
    return after.peak - after.current;
  }
#endif
  return 0;
}

}  // namespace comba::tools
