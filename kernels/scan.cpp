#include "kernels/scan.h"

#include "kernels/scan_problem.h"

#include <string>

#include <ATen/core/dispatch/Dispatcher.h>

namespace comba::kernels {

std::tuple<at::Tensor, at::Tensor> scan(const at::Tensor& q, const at::Tensor& k,
                                        const at::Tensor& v, const at::Tensor& log_alpha,
                                        const at::Tensor& beta, const at::Tensor& c,
                                        const at::Tensor& d, const at::Tensor& initial_state,
                                        const ScanOptions& options) {
  using Signature = std::tuple<at::Tensor, at::Tensor>(
      const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
      const at::Tensor&, const OptionalTensor&, const OptionalTensor&, double, bool, bool);
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("comba::scan", "").typed<Signature>();
  return op.call(q, k, v, log_alpha, beta, c, optional(d), optional(initial_state), options.scale,
                 options.decayed_feedback, options.reverse);
}

at::Tensor bidirectional_scan(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const at::Tensor& log_alpha, const at::Tensor& beta,
                              const at::Tensor& c, const at::Tensor& d, double scale,
                              bool decayed_feedback, std::string_view merge) {
  using Signature = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                               const at::Tensor&, const at::Tensor&, const at::Tensor&,
                               const OptionalTensor&, double, bool, c10::string_view);
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("comba::bidirectional_scan", "")
                             .typed<Signature>();
  return op.call(q, k, v, log_alpha, beta, c, optional(d), scale, decayed_feedback, merge);
}

}  // namespace comba::kernels
