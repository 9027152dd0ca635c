// Shapes and dtypes of the mixer's results, for tracing and torch.compile.
#include "kernels/mixer_operators.h"

#include <ATen/ops/empty.h>
#include <torch/library.h>

namespace comba::kernels {
namespace {

at::Tensor like(const at::Tensor& x) { return at::empty_symint(x.sym_sizes(), x.options()); }
at::Tensor like(const OptionalTensor& x, const at::TensorOptions& options) {
  return x && x->defined() ? like(*x) : at::empty({0}, options);
}

std::tuple<at::Tensor, at::Tensor> mixer(const at::Tensor& qkv, const at::Tensor&,
                                         const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                         const OptionalTensor&, const OptionalTensor&,
                                         const at::Tensor&, double, bool, bool,
                                         c10::string_view merge, double) {
  TORCH_CHECK(qkv.dim() == 5, "comba::mixer: qkv: expected [B, T, 3, H, D], got ", qkv.sizes());
  c10::SymDimVector sizes = {qkv.sym_size(0), qkv.sym_size(1)};
  if (merge == "concat") {
    sizes.push_back(2);
  }
  sizes.push_back(qkv.sym_size(3));
  sizes.push_back(qkv.sym_size(4));
  return {at::empty_symint(sizes, qkv.options()), at::empty_symint(sizes, qkv.options())};
}

MixerGradientTuple mixer_backward(const at::Tensor&, const at::Tensor&, const at::Tensor& qkv,
                                  const at::Tensor& taps, const at::Tensor& log_alpha,
                                  const at::Tensor& beta, const at::Tensor& c,
                                  const OptionalTensor& d, const OptionalTensor& gate,
                                  const at::Tensor& norm_weight, double, bool, bool,
                                  c10::string_view, double) {
  const auto accum = qkv.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return {like(qkv),
          like(taps),
          like(log_alpha),
          like(beta),
          like(c),
          like(d, qkv.options().dtype(accum)),
          like(gate, qkv.options()),
          like(norm_weight)};
}

}  // namespace

TORCH_LIBRARY_IMPL(comba, Meta, m) {
  m.impl("mixer", &mixer);
  m.impl("mixer_backward", &mixer_backward);
}

}  // namespace comba::kernels
