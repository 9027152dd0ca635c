// The operators comba::mixer and comba::mixer_backward, generic over the device: the kernels around the scan are a
// MixerBackend, the scan itself is its own operator. A device's file holds a MixerBackend and
//   TORCH_LIBRARY_IMPL(comba, CPU, m) { register_mixer_operators<&kBackend>(m); }
#pragma once

#include "kernels/mixer_params.h"
#include "kernels/scan_problem.h"

#include <torch/library.h>

namespace comba::kernels {

// The operators' tensors, checked; gates, taps and weights in the accumulation dtype.
struct MixerProblem {
  at::Tensor qkv, taps, gate, norm_weight;
  bool normalize = true;
  bool apart = false;  // by "concat"
  double factor = 1, norm_eps = 0;

  MixerShape shape() const;
  bool convolves() const { return taps.size(-1) > 0; }
};

struct MixerBackend {
  // Into q, k, v: [R, B, T, H, D] contiguous, in qkv's dtype.
  void (*rows)(const MixerProblem& problem, const at::Tensor (&rows)[3]);
  // Into grad_qkv (contiguous); returns the gradient of the taps.
  at::Tensor (*rows_backward)(const MixerProblem& problem, const at::Tensor (&grad_rows)[3],
                              const at::Tensor& grad_qkv);
  // From o [R, B, T, H, D] into merged and y [B, T, H, D], or [B, T, 2, H, D] apart.
  void (*output)(const MixerProblem& problem, const at::Tensor& o, const at::Tensor& merged,
                 const at::Tensor& y);
  // Into the gradients of the merged o and of the gate (undefined without one); returns that of the weight.
  at::Tensor (*output_backward)(const MixerProblem& problem, const at::Tensor& merged,
                                const at::Tensor& grad_y, const at::Tensor& grad_o,
                                const at::Tensor& grad_gate);
  // Optional: rows, scan and output at once. `raw`: the scan's problem over what the convolutions are to be applied to.
  // False for problems it does not take.
  bool (*fused)(const MixerProblem& problem, const ScanProblem& raw, const at::Tensor& merged,
                const at::Tensor& y) = nullptr;
};

template <typename Accum>
MixerRows<Accum> make_mixer_rows(const MixerProblem& problem);
template <typename Accum>
MixerOutput<Accum> make_mixer_output(const MixerProblem& problem);

// Gradients of qkv, taps, log_alpha, beta, c, d, gate, norm_weight; absent inputs have empty ones.
using MixerGradientTuple = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor,
                                      at::Tensor, at::Tensor, at::Tensor>;

std::tuple<at::Tensor, at::Tensor> run_mixer(const MixerBackend& backend, const at::Tensor& qkv,
                                             const at::Tensor& taps, const at::Tensor& log_alpha,
                                             const at::Tensor& beta, const at::Tensor& c,
                                             const OptionalTensor& d, const OptionalTensor& gate,
                                             const at::Tensor& norm_weight, double scale,
                                             bool decayed_feedback, bool normalize,
                                             std::string_view merge, double norm_eps);
MixerGradientTuple run_mixer_backward(const MixerBackend& backend, const at::Tensor& grad_y,
                                      const at::Tensor& merged, const at::Tensor& qkv,
                                      const at::Tensor& taps, const at::Tensor& log_alpha,
                                      const at::Tensor& beta, const at::Tensor& c,
                                      const OptionalTensor& d, const OptionalTensor& gate,
                                      const at::Tensor& norm_weight, double scale,
                                      bool decayed_feedback, bool normalize, std::string_view merge,
                                      double norm_eps);

template <const MixerBackend* kBackend>
struct MixerOperators {
  static std::tuple<at::Tensor, at::Tensor> mixer(
      const at::Tensor& qkv, const at::Tensor& taps, const at::Tensor& log_alpha,
      const at::Tensor& beta, const at::Tensor& c, const OptionalTensor& d,
      const OptionalTensor& gate, const at::Tensor& norm_weight, double scale,
      bool decayed_feedback, bool normalize, std::string_view merge, double norm_eps) {
    return run_mixer(*kBackend, qkv, taps, log_alpha, beta, c, d, gate, norm_weight, scale,
                     decayed_feedback, normalize, merge, norm_eps);
  }
  static MixerGradientTuple backward(const at::Tensor& grad_y, const at::Tensor& merged,
                                     const at::Tensor& qkv, const at::Tensor& taps,
                                     const at::Tensor& log_alpha, const at::Tensor& beta,
                                     const at::Tensor& c, const OptionalTensor& d,
                                     const OptionalTensor& gate, const at::Tensor& norm_weight,
                                     double scale, bool decayed_feedback, bool normalize,
                                     std::string_view merge, double norm_eps) {
    return run_mixer_backward(*kBackend, grad_y, merged, qkv, taps, log_alpha, beta, c, d, gate,
                              norm_weight, scale, decayed_feedback, normalize, merge, norm_eps);
  }
};

template <const MixerBackend* kBackend>
void register_mixer_operators(torch::Library& m) {
  m.impl("mixer", &MixerOperators<kBackend>::mixer);
  m.impl("mixer_backward", &MixerOperators<kBackend>::backward);
}

}  // namespace comba::kernels
