#include "kernels/mixer.h"

#include "kernels/mixer_operators.h"
#include "kernels/scan.h"

#include <vector>

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

namespace comba::kernels {
namespace {

constexpr const char* kOp = "comba::mixer";

bool given(const OptionalTensor& x) { return x && x->defined(); }

void check_shape(const char* name, const at::Tensor& tensor, at::IntArrayRef expected,
                 const char* letters) {
  TORCH_CHECK(tensor.sizes() == expected, kOp, ": ", name, ": expected shape ", letters, " = ",
              expected, ", got ", tensor.sizes(), " (see kernels/mixer.h)");
}
void check_place(const char* name, const at::Tensor& tensor, const at::Tensor& qkv) {
  TORCH_CHECK(tensor.device() == qkv.device(), kOp, ": ", name, ": expected device ", qkv.device(),
              " as for qkv, got ", tensor.device());
  TORCH_CHECK(at::isFloatingType(tensor.scalar_type()), kOp, ": ", name,
              ": expected a floating dtype, got ", tensor.scalar_type());
}

// The rest of the gates is checked by the scan, which also takes fewer of them for one direction.
void check_mixer(const at::Tensor& qkv, const at::Tensor& taps, const at::Tensor& log_alpha,
                 const OptionalTensor& gate, const at::Tensor& norm_weight,
                 std::string_view merge) {
  TORCH_CHECK(qkv.dim() == 5 && qkv.size(2) == 3, kOp,
              ": qkv: expected shape [B, T, 3, H, D], got ", qkv.sizes(), " (see kernels/mixer.h)");
  const int64_t heads = qkv.size(3), dim = qkv.size(4);
  check_place("taps", taps, qkv);
  TORCH_CHECK(taps.dim() == 5 && (taps.size(0) == 1 || taps.size(0) == 2), kOp,
              ": taps: expected shape [R, 3, H, D, taps] with R = 1 or 2 directions, got ",
              taps.sizes());
  const int64_t directions = taps.size(0);
  check_shape("taps", taps, {directions, 3, heads, dim, taps.size(4)}, "[R, 3, H, D, taps]");
  TORCH_CHECK(!qkv.is_cuda() || taps.size(4) <= 4, kOp, ": taps: expected 4 at most on CUDA, got ",
              taps.size(4));
  TORCH_CHECK(!qkv.is_cuda() || dim == 16 || dim == 32 || dim == 64 || dim == 128, kOp,
              ": qkv: head dimension ", dim, " is not built for CUDA; expected 16, 32, 64 or 128");
  check_place("norm_weight", norm_weight, qkv);
  check_shape("norm_weight", norm_weight, {dim}, "[D]");
  if (given(gate)) {
    check_place("gate", *gate, qkv);
    check_shape("gate", *gate, {qkv.size(0), qkv.size(1), heads, dim}, "[B, T, H, D]");
    TORCH_CHECK(gate->scalar_type() == qkv.scalar_type(), kOp, ": gate: expected dtype ",
                qkv.scalar_type(), " as for qkv, got ", gate->scalar_type(),
                "; convert one of them");
  }
  TORCH_CHECK(merge == "mean" || merge == "sum" || merge == "concat", kOp,
              ": merge: expected \"mean\", \"sum\" or \"concat\", got \"", std::string(merge),
              "\"");
  TORCH_CHECK(merge != "concat" || directions == 2, kOp,
              ": merge: \"concat\" takes 2 directions, got taps of ", directions);
  TORCH_CHECK(log_alpha.dim() == 4 && log_alpha.size(0) == directions, kOp,
              ": log_alpha: expected shape [R, B, T, H] with R = ", directions, " as of taps, got ",
              log_alpha.sizes());
}

// Rows must be dense and, for 16-byte loads, aligned; every other stride is free.
at::Tensor dense_rows(const at::Tensor& x) {
  const auto strides = x.strides();
  const bool aligned = reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0 &&
                       std::all_of(strides.begin(), strides.end() - 1,
                                   [](int64_t stride) { return stride % 8 == 0; });
  return x.stride(-1) == 1 && aligned ? x : x.contiguous();
}

MixerProblem make_problem(const at::Tensor& qkv, const at::Tensor& taps,
                          const at::Tensor& log_alpha, const OptionalTensor& gate,
                          const at::Tensor& norm_weight, bool normalize, std::string_view merge,
                          double norm_eps) {
  check_mixer(qkv, taps, log_alpha, gate, norm_weight, merge);
  const auto accum = qkv.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  MixerProblem problem;
  problem.qkv = dense_rows(qkv);
  problem.taps = taps.to(accum).contiguous();
  problem.norm_weight = norm_weight.to(accum).contiguous();
  if (given(gate)) {
    problem.gate = dense_rows(*gate);
  }
  problem.normalize = normalize;
  problem.apart = merge == "concat";
  problem.factor = merge == "mean" ? 1.0 / static_cast<double>(taps.size(0)) : 1.0;
  problem.norm_eps = norm_eps;
  return problem;
}

// [B, T, H, D], apart [B, T, 2, H, D]
std::vector<int64_t> output_sizes(const MixerProblem& problem) {
  const MixerShape s = problem.shape();
  return problem.apart ? std::vector<int64_t>{s.batch, s.length, 2, s.heads, s.dim}
                       : std::vector<int64_t>{s.batch, s.length, s.heads, s.dim};
}

struct Rows {
  at::Tensor of[3];  // q, k, v

  explicit Rows(const MixerProblem& problem) {
    const MixerShape s = problem.shape();
    for (at::Tensor& rows : of) {
      rows = at::empty({s.directions, s.batch, s.length, s.heads, s.dim}, problem.qkv.options());
    }
  }
};

// The scan's problem over the rows as the operator gets them.
ScanProblem raw_scan_problem(const MixerProblem& problem, const at::Tensor& log_alpha,
                             const at::Tensor& beta, const at::Tensor& c, const OptionalTensor& d,
                             double scale, bool decayed_feedback) {
  const at::Tensor q = problem.qkv.select(2, 0), k = problem.qkv.select(2, 1),
                   v = problem.qkv.select(2, 2);
  check_bidirectional_scan(q, k, v, log_alpha, beta, c, d, "none");
  return bidirectional_problem(q, k, v, log_alpha, beta, c, d, scale, decayed_feedback);
}

at::Tensor scan_rows(const Rows& rows, const at::Tensor& log_alpha, const at::Tensor& beta,
                     const at::Tensor& c, const OptionalTensor& d, double scale,
                     bool decayed_feedback) {
  return bidirectional_scan(rows.of[0], rows.of[1], rows.of[2], log_alpha, beta, c,
                            d.value_or(at::Tensor()), scale, decayed_feedback, "none");
}

BidirectionalGradientTuple scan_rows_backward(const at::Tensor& grad_o, const Rows& rows,
                                              const at::Tensor& log_alpha, const at::Tensor& beta,
                                              const at::Tensor& c, const OptionalTensor& d,
                                              double scale, bool decayed_feedback,
                                              std::string_view merge) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("comba::bidirectional_scan_backward", "")
          .typed<BidirectionalGradientTuple(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                            const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                            const at::Tensor&, const OptionalTensor&, double, bool,
                                            c10::string_view)>();
  return op.call(grad_o, rows.of[0], rows.of[1], rows.of[2], log_alpha, beta, c, d, scale,
                 decayed_feedback, merge);
}

}  // namespace

MixerShape MixerProblem::shape() const {
  return {taps.size(0), qkv.size(0), qkv.size(1), qkv.size(3), qkv.size(4), taps.size(4)};
}

template <typename Accum>
MixerRows<Accum> make_mixer_rows(const MixerProblem& problem) {
  const at::Tensor& qkv = problem.qkv;
  MixerRows<Accum> rows;
  rows.shape = problem.shape();
  rows.qkv = qkv.const_data_ptr();
  rows.batch_stride = qkv.stride(0);
  rows.time_stride = qkv.stride(1);
  rows.part_stride = qkv.stride(2);
  rows.head_stride = qkv.stride(3);
  rows.taps = problem.taps.const_data_ptr<Accum>();
  rows.normalize = problem.normalize;
  return rows;
}

template <typename Accum>
MixerOutput<Accum> make_mixer_output(const MixerProblem& problem) {
  MixerOutput<Accum> output;
  output.shape = problem.shape();
  output.apart = problem.apart;
  output.factor = static_cast<Accum>(problem.factor);
  if (problem.gate.defined()) {
    output.gate = problem.gate.const_data_ptr();
    output.gate_batch_stride = problem.gate.stride(0);
    output.gate_time_stride = problem.gate.stride(1);
    output.gate_head_stride = problem.gate.stride(2);
  }
  output.weight = problem.norm_weight.const_data_ptr<Accum>();
  output.eps = static_cast<Accum>(problem.norm_eps);
  return output;
}

template MixerRows<float> make_mixer_rows<float>(const MixerProblem&);
template MixerRows<double> make_mixer_rows<double>(const MixerProblem&);
template MixerOutput<float> make_mixer_output<float>(const MixerProblem&);
template MixerOutput<double> make_mixer_output<double>(const MixerProblem&);

std::tuple<at::Tensor, at::Tensor> run_mixer(const MixerBackend& backend, const at::Tensor& qkv,
                                             const at::Tensor& taps, const at::Tensor& log_alpha,
                                             const at::Tensor& beta, const at::Tensor& c,
                                             const OptionalTensor& d, const OptionalTensor& gate,
                                             const at::Tensor& norm_weight, double scale,
                                             bool decayed_feedback, bool normalize,
                                             std::string_view merge, double norm_eps) {
  const MixerProblem problem =
      make_problem(qkv, taps, log_alpha, gate, norm_weight, normalize, merge, norm_eps);
  const at::Tensor merged = at::empty(output_sizes(problem), qkv.options());
  const at::Tensor y = at::empty(merged.sizes(), qkv.options());
  const bool usual = problem.shape().directions == 2 && problem.convolves() && !problem.apart;
  if (usual && backend.fused != nullptr &&
      backend.fused(problem,
                    raw_scan_problem(problem, log_alpha, beta, c, d, scale, decayed_feedback),
                    merged, y)) {
    return {y, merged};
  }
  const Rows rows(problem);
  backend.rows(problem, rows.of);
  backend.output(problem, scan_rows(rows, log_alpha, beta, c, d, scale, decayed_feedback), merged,
                 y);
  return {y, merged};
}

MixerGradientTuple run_mixer_backward(const MixerBackend& backend, const at::Tensor& grad_y,
                                      const at::Tensor& merged, const at::Tensor& qkv,
                                      const at::Tensor& taps, const at::Tensor& log_alpha,
                                      const at::Tensor& beta, const at::Tensor& c,
                                      const OptionalTensor& d, const OptionalTensor& gate,
                                      const at::Tensor& norm_weight, double scale,
                                      bool decayed_feedback, bool normalize, std::string_view merge,
                                      double norm_eps) {
  const MixerProblem problem =
      make_problem(qkv, taps, log_alpha, gate, norm_weight, normalize, merge, norm_eps);
  const auto options = qkv.options();
  const at::Tensor grad_o = at::empty(merged.sizes(), options);
  const at::Tensor grad_gate =
      at::empty(given(gate) ? gate->sizes() : at::IntArrayRef({0}), options);
  const at::Tensor grad_weight = backend.output_backward(
      problem, merged, grad_y.contiguous(), grad_o, given(gate) ? grad_gate : at::Tensor());
  const Rows rows(problem);
  backend.rows(problem, rows.of);
  const bool joined = rows.of[0].size(0) == 2 && !problem.apart;
  const at::Tensor grad_each = joined          ? grad_o
                               : problem.apart ? grad_o.permute({2, 0, 1, 3, 4})
                                               : grad_o.unsqueeze(0);
  const auto [grad_q, grad_k, grad_v, grad_log_alpha, grad_beta, grad_c, grad_d] =
      scan_rows_backward(grad_each, rows, log_alpha, beta, c, d, scale, decayed_feedback,
                         joined ? merge : "none");
  const at::Tensor grad_qkv = at::empty(qkv.sizes(), options);
  const at::Tensor grad_taps = backend.rows_backward(problem, {grad_q, grad_k, grad_v}, grad_qkv);
  return {grad_qkv,       grad_taps.to(taps.scalar_type()),
          grad_log_alpha, grad_beta,
          grad_c,         grad_d,
          grad_gate,      grad_weight.to(norm_weight.scalar_type())};
}

at::Tensor mixer(const MixerInputs& inputs, const MixerOptions& options) {
  using Signature = std::tuple<at::Tensor, at::Tensor>(
      const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
      const OptionalTensor&, const OptionalTensor&, const at::Tensor&, double, bool, bool,
      c10::string_view, double);
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("comba::mixer", "").typed<Signature>();
  return std::get<0>(op.call(inputs.qkv, inputs.taps, inputs.log_alpha, inputs.beta, inputs.c,
                             optional(inputs.d), optional(inputs.gate), inputs.norm_weight,
                             options.scale, options.decayed_feedback, options.normalize,
                             options.merge, options.norm_eps));
}

}  // namespace comba::kernels
