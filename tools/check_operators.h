// Every operator on a device against its formula in fp64.
#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::tools {

// One tensor's errors: percentiles of |x - reference| / rms(reference), and their rms against the bound.
struct ErrorRow {
  std::string device, op, dtype, tensor;
  double p50 = 0, p99 = 0, max = 0, rms = 0, allowed = 0;
  bool pass() const { return rms <= allowed; }  // false for NaN
};

// Outputs and gradients of all operators in fp32, bf16 and fp16, device by device.
std::vector<ErrorRow> check_operators(const std::vector<at::Device>& devices);

// Which kernels an operator of namespace comba has, and which of those it needs it lacks.
struct Registration {
  std::string op;
  std::vector<std::string> present, missing;
};
std::vector<Registration> registrations();

}  // namespace comba::tools
