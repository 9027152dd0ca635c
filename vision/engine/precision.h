// Which device to compute on, and mixed precision as a scope.
#pragma once

#include <string>
#include <vector>

#include <c10/core/Device.h>

namespace comba::vision {

// "cpu", "cuda" or "cuda:N" (throws UsageError where there is none), or "auto": CUDA if there is one.
c10::Device choose_device(const std::string& name);
// The same of a list, "cuda:0,cuda:1"; no device twice.
std::vector<c10::Device> choose_devices(const std::string& names);

enum class Precision { fp32, bf16 };

// "auto" is bf16 on CUDA and fp32 on the CPU; "bf16" on the CPU throws UsageError.
Precision choose_precision(const std::string& name, const c10::Device& device);

// While alive, matrix products on CUDA run in bf16 (autocast); the previous state comes back at the end. For
// fp32, or on the CPU, it does nothing.
class AutocastScope {
 public:
  explicit AutocastScope(Precision precision);
  ~AutocastScope();
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  bool active_ = false;
  bool was_enabled_ = false;
};

}  // namespace comba::vision
