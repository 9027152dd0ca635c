// What must be registered once an executable or libcomba_ops.so is loaded.
#pragma once

#include <string>
#include <string_view>

#include <ATen/core/dispatch/Dispatcher.h>

namespace comba::kernels::test {

// "comba::scan lacks Meta; ..." or "" when all is there.
inline std::string missing_registrations() {
  std::string missing;
  for (const char* name : {"comba::scan",
                           "comba::bidirectional_scan",
                           "comba::scan_backward",
                           "comba::bidirectional_scan_backward",
                           "comba::mixer",
                           "comba::mixer_backward",
                           "comba::gates",
                           "comba::gates_backward",
                           "comba::add_norm",
                           "comba::add_norm_backward",
                           "comba::bias_gelu",
                           "comba::bias_gelu_backward",
                           "comba::causal_conv",
                           "comba::causal_conv_backward",
                           "comba::column_sums",
                           "comba::mlp",
                           "comba::mlp_backward",
                           "comba::patch_rows",
                           "comba::join_columns",
                           "comba::selective_scan",
                           "comba::selective_scan_backward",
                           "comba::augment_images",
                           "comba::normalise_images"}) {
    const bool differentiable = !std::string_view(name).ends_with("_images");
    const auto op = c10::Dispatcher::singleton().findSchema({name, ""});
    if (!op) {
      missing += std::string(name) + " is not registered; ";
      continue;
    }
    for (const c10::DispatchKey key :
         {c10::DispatchKey::CPU, c10::DispatchKey::Meta, c10::DispatchKey::Autograd,
#ifdef COMBA_CUDA
          c10::DispatchKey::CUDA
#endif
         }) {
      const bool present = key == c10::DispatchKey::Autograd
                               ? !differentiable ||
                                     op->hasKernelForDispatchKey(c10::DispatchKey::AutogradCPU) ||
                                     op->hasKernelForDispatchKey(key)
                               : op->hasKernelForDispatchKey(key);
      if (!present) {
        missing += std::string(name) + " lacks " + c10::toString(key) + "; ";
      }
    }
  }
  return missing;
}

}  // namespace comba::kernels::test
