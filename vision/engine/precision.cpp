#include "vision/engine/precision.h"

#include "vision/base/error.h"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>

namespace comba::vision {

c10::Device choose_device(const std::string& name) {
  if (name != "auto" && name != "cpu" && name != "cuda") {
    throw UsageError(fmt::format("--device: expected auto, cpu or cuda, got \"{}\"", name));
  }
  const bool cuda = name != "cpu" && at::hasCUDA();
  if (name == "cuda" && !cuda) {
    throw UsageError(
        "--device cuda: LibTorch finds no usable CUDA device here; use --device cpu, or look "
        "at nvidia-smi and the driver");
  }
  return cuda ? c10::Device(c10::kCUDA, 0) : c10::Device(c10::kCPU);
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
