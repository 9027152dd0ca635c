#include "vision/engine/precision.h"

#include "vision/base/error.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/detail/CUDAHooksInterface.h>

namespace comba::vision {

c10::Device choose_device(const std::string& name) {
  if (name == "cpu" || (name == "auto" && !at::hasCUDA())) {
    return c10::kCPU;
  }
  constexpr std::string_view kPrefix = "cuda:";
  int number = 0;
  const char* const last = name.data() + name.size();
  const bool numbered = name.starts_with(kPrefix) &&
                        std::from_chars(name.data() + kPrefix.size(), last, number).ptr == last &&
                        name.size() > kPrefix.size() && number >= 0;
  if (name != "auto" && name != "cuda" && !numbered) {
    throw UsageError(fmt::format("--device: expected auto, cpu, cuda or cuda:N, got \"{}\"", name));
  }
  const int count = at::hasCUDA() ? at::detail::getCUDAHooks().deviceCount() : 0;
  if (number >= count) {
    throw UsageError(fmt::format(
        "--device {}: LibTorch finds {} usable CUDA devices here; use --device cpu, or look at "
        "nvidia-smi and the driver",
        name, count));
  }
  return {c10::kCUDA, static_cast<c10::DeviceIndex>(number)};
}

std::vector<c10::Device> choose_devices(const std::string& names) {
  std::vector<c10::Device> devices;
  for (size_t begin = 0; begin <= names.size();) {
    const size_t end = std::min(names.find(',', begin), names.size());
    const c10::Device device = choose_device(names.substr(begin, end - begin));
    if (std::find(devices.begin(), devices.end(), device) != devices.end()) {
      throw UsageError(fmt::format("--device {}: {} is there twice", names, device.str()));
    }
    devices.push_back(device);
    begin = end + 1;
  }
  return devices;
}

Precision choose_precision(const std::string& name, const c10::Device& device) {
  if (name == "fp32" || (name == "auto" && !device.is_cuda())) {
    return Precision::fp32;
  }
  if (name != "auto" && name != "bf16") {
    throw UsageError(fmt::format("train.precision: expected auto, fp32 or bf16, got \"{}\"", name));
  }
  if (!device.is_cuda()) {
    throw UsageError("train.precision: bf16 needs a CUDA device; use fp32 or auto on the CPU");
  }
  return Precision::bf16;
}

AutocastScope::AutocastScope(Precision precision) : active_(precision == Precision::bf16) {
  if (!active_) {
    return;
  }
  was_enabled_ = at::autocast::is_autocast_enabled(at::kCUDA);
  at::autocast::set_autocast_dtype(at::kCUDA, at::kBFloat16);
  at::autocast::set_autocast_enabled(at::kCUDA, true);
  at::autocast::increment_nesting();
}

AutocastScope::~AutocastScope() {
  if (!active_) {
    return;
  }
  // The cache holds bf16 copies of weights that the optimizer is about to change.
  if (at::autocast::decrement_nesting() == 0) {
    at::autocast::clear_cache();
  }
  at::autocast::set_autocast_enabled(at::kCUDA, was_enabled_);
}

}  // namespace comba::vision
