// The four operators of the schema, generic over the device. A device's file holds a ScanBackend and
//   TORCH_LIBRARY_IMPL(comba, CPU, m) { register_scan_operators<&kBackend>(m); }
#pragma once

#include "kernels/scan_problem.h"

#include <torch/library.h>

namespace comba::kernels {

ScanGradientTuple run_scan_backward(const ScanBackend& backend, const ScanProblem& problem,
                                    const OptionalTensor& grad_o,
                                    const OptionalTensor& grad_final_state,
                                    const at::Tensor& log_alpha, const at::Tensor& beta,
                                    const at::Tensor& c, const OptionalTensor& d,
                                    const OptionalTensor& initial_state);
BidirectionalGradientTuple run_bidirectional_scan_backward(
    const ScanBackend& backend, const ScanProblem& problem, const at::Tensor& grad_o,
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& log_alpha,
    const at::Tensor& beta, const at::Tensor& c, const OptionalTensor& d, std::string_view merge);

template <const ScanBackend* kBackend>
struct ScanOperators {
  static std::tuple<at::Tensor, at::Tensor> scan(const at::Tensor& q, const at::Tensor& k,
                                                 const at::Tensor& v, const at::Tensor& log_alpha,
                                                 const at::Tensor& beta, const at::Tensor& c,
                                                 const OptionalTensor& d,
                                                 const OptionalTensor& initial_state, double scale,
                                                 bool decayed_feedback, bool reverse) {
    check_scan(q, k, v, log_alpha, beta, c, d, initial_state);
    return run_scan(*kBackend, scan_problem(q, k, v, log_alpha, beta, c, d, initial_state, scale,
                                            decayed_feedback, reverse));
  }

  static ScanGradientTuple scan_backward(
      const OptionalTensor& grad_o, const OptionalTensor& grad_final_state, const at::Tensor& q,
      const at::Tensor& k, const at::Tensor& v, const at::Tensor& log_alpha, const at::Tensor& beta,
      const at::Tensor& c, const OptionalTensor& d, const OptionalTensor& initial_state,
      double scale, bool decayed_feedback, bool reverse) {
    check_scan(q, k, v, log_alpha, beta, c, d, initial_state);
    return run_scan_backward(*kBackend,
                             scan_problem(q, k, v, log_alpha, beta, c, d, initial_state, scale,
                                          decayed_feedback, reverse),
                             grad_o, grad_final_state, log_alpha, beta, c, d, initial_state);
  }

  static at::Tensor bidirectional_scan(const at::Tensor& q, const at::Tensor& k,
                                       const at::Tensor& v, const at::Tensor& log_alpha,
                                       const at::Tensor& beta, const at::Tensor& c,
                                       const OptionalTensor& d, double scale, bool decayed_feedback,
                                       std::string_view merge) {
    check_bidirectional_scan(q, k, v, log_alpha, beta, c, d, merge);
    return run_bidirectional_scan(
        *kBackend, bidirectional_problem(q, k, v, log_alpha, beta, c, d, scale, decayed_feedback),
        merge);
  }

  static BidirectionalGradientTuple bidirectional_scan_backward(
      const at::Tensor& grad_o, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
      const at::Tensor& log_alpha, const at::Tensor& beta, const at::Tensor& c,
      const OptionalTensor& d, double scale, bool decayed_feedback, std::string_view merge) {
    check_bidirectional_scan(q, k, v, log_alpha, beta, c, d, merge);
    return run_bidirectional_scan_backward(
        *kBackend, bidirectional_problem(q, k, v, log_alpha, beta, c, d, scale, decayed_feedback),
        grad_o, q, k, v, log_alpha, beta, c, d, merge);
  }
};

template <const ScanBackend* kBackend>
void register_scan_operators(torch::Library& m) {
  using Operators = ScanOperators<kBackend>;
  m.impl("scan", &Operators::scan);
  m.impl("scan_backward", &Operators::scan_backward);
  m.impl("bidirectional_scan", &Operators::bidirectional_scan);
  m.impl("bidirectional_scan_backward", &Operators::bidirectional_scan_backward);
}

}  // namespace comba::kernels
