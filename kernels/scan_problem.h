// The common host side of both operators on every device: checks, one canonical [R, B, T, H, D] problem,
// and the way back from its results to the operators' outputs.
#pragma once

#include "kernels/optional_tensor.h"
#include "kernels/scan_params.h"

#include <optional>
#include <string_view>
#include <tuple>

#include <ATen/core/Tensor.h>

namespace comba::kernels {

// Both operators reduced to one form. q, k, v keep their dtype; the rest is in the accumulation dtype
// (fp32, or fp64 for fp64 inputs), contiguous.
struct ScanProblem {
  at::Tensor q, k, v;             // [R, B, T, H, D], last stride 1, direction stride 0 where shared
  at::Tensor log_alpha, beta, c;  // [R, B, T, H]
  at::Tensor d;                   // [R, H]
  at::Tensor initial_state;       // [R, B, H, Dk, Dv] or undefined
  double scale = 1;
  bool decayed_feedback = false;
  bool reverse = false;

  at::ScalarType accum_dtype() const { return log_alpha.scalar_type(); }
  int64_t directions() const { return q.size(0); }
};

// Results in the canonical form; accumulation dtype, contiguous.
struct ScanResult {
  at::Tensor o;            // [R, B, T, H, Dv]
  at::Tensor final_state;  // [R, B, H, Dk, Dv]
};
struct ScanGradientResult {
  at::Tensor q, k, v;             // [R, B, T, H, D]
  at::Tensor log_alpha, beta, c;  // [R, B, T, H]
  at::Tensor d;                   // [R, B, H] partial sums over t
  at::Tensor initial_state;       // [R, B, H, Dk, Dv]
};

// Throw c10::Error naming the argument, what was expected and what was found.
void check_scan(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                const at::Tensor& log_alpha, const at::Tensor& beta, const at::Tensor& c,
                const OptionalTensor& d, const OptionalTensor& initial_state);
void check_bidirectional_scan(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const at::Tensor& log_alpha, const at::Tensor& beta,
                              const at::Tensor& c, const OptionalTensor& d, std::string_view merge);

ScanProblem scan_problem(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                         const at::Tensor& log_alpha, const at::Tensor& beta, const at::Tensor& c,
                         const OptionalTensor& d, const OptionalTensor& initial_state, double scale,
                         bool decayed_feedback, bool reverse);
ScanProblem bidirectional_problem(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                  const at::Tensor& log_alpha, const at::Tensor& beta,
                                  const at::Tensor& c, const OptionalTensor& d, double scale,
                                  bool decayed_feedback);

template <typename Accum>
ScanParams<Accum> make_params(const ScanProblem& problem);
// Allocates (zero tokens give zero gradients and an unchanged state).
ScanResult empty_result(const ScanProblem& problem);
ScanGradientResult empty_gradients(const ScanProblem& problem);
template <typename Accum>
ScanGradients<Accum> make_gradients(const ScanGradientResult& result, const at::Tensor& grad_o,
                                    const at::Tensor& grad_final_state);

// A device: two functions over the canonical form. grad_o [R, B, T, H, Dv] and grad_final_state
// [R, B, H, Dk, Dv] (or undefined) are in the accumulation dtype.
struct ScanBackend {
  void (*forward)(const ScanProblem& problem, const ScanResult& result);
  void (*backward)(const ScanProblem& problem, const at::Tensor& grad_o,
                   const at::Tensor& grad_final_state, const ScanGradientResult& result);
  // Optional: a faster way to the merged output of the bidirectional scan, in the inputs' dtype; undefined for problems
  // it does not take.
  at::Tensor (*bidirectional)(const ScanProblem& problem, std::string_view merge) = nullptr;
  // Optional: its gradients. `shared_rows`: q, k and v serve both directions. Gradients of q, k, v in their dtype,
  // [B, T, H, D] with shared rows and a merged output, else [R, B, T, H, D]; of d: [R, H]. False: not taken.
  bool (*bidirectional_backward)(const ScanProblem& problem, const at::Tensor& grad_o,
                                 std::string_view merge, bool shared_rows,
                                 ScanGradientResult& gradients) = nullptr;
};

// The operators of the schema over a backend. A device registers them with its own dispatch key.
std::tuple<at::Tensor, at::Tensor> run_scan(const ScanBackend& backend, const ScanProblem& problem);
at::Tensor run_bidirectional_scan(const ScanBackend& backend, const ScanProblem& problem,
                                  std::string_view merge);

using ScanGradientTuple = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor,
                                     at::Tensor, at::Tensor, at::Tensor>;
using BidirectionalGradientTuple =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

}  // namespace comba::kernels
