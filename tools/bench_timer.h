// Times a function on one device: medians over repeats, eagerly and, on a GPU, as a replayed CUDA graph.
#pragma once

#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

namespace comba::tools {

// `run(i)` works on the i-th of several sets of inputs, so that no cache holds what the next run reads; it returns what
// must stay alive until the work is done.
struct Timed {
  std::function<std::vector<at::Tensor>(size_t)> run;
  size_t sets = 1;
};

// Whether an error of LibTorch means that memory was short, on a GPU or on the CPU, whose allocator has no type for it.
bool is_out_of_memory(const c10::Error& error);

struct DeviceTimer {
  at::Device device;
  int repeats = 20;

  // Milliseconds of one run, the first perhaps: to see whether more of them can be waited for.
  double once(const Timed& candidate) const { return time(candidate, 0); }
  // Milliseconds a run of each candidate. The candidates take turns, so that a noisy machine troubles all alike.
  std::vector<double> eager(const std::vector<Timed>& candidates) const;
  // Each candidate's sets in one CUDA graph; empty on the CPU.
  std::vector<double> graph(const std::vector<Timed>& candidates) const;
  // Bytes allocated at the worst moment of a run beyond those before it and its results; 0 on the CPU.
  int64_t extra_memory(const Timed& candidate) const;

 private:
  double time(const Timed& candidate, size_t set) const;
};

}  // namespace comba::tools
