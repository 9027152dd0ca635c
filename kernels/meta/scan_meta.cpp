// Shapes and dtypes of the results, for tracing and torch.compile.
#include "kernels/scan_problem.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

namespace comba::kernels {
namespace {

at::Tensor like(const at::Tensor& x) { return at::empty_symint(x.sym_sizes(), x.options()); }

at::ScalarType accum_dtype(const at::Tensor& q) {
  return q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor like(const OptionalTensor& x, const at::Tensor& q) {
  return x && x->defined() ? like(*x) : at::empty({0}, q.options().dtype(accum_dtype(q)));
}

std::tuple<at::Tensor, at::Tensor> scan(const at::Tensor& q, const at::Tensor&, const at::Tensor& v,
                                        const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                        const OptionalTensor&, const OptionalTensor&, double, bool,
                                        bool) {
  TORCH_CHECK(q.dim() == 4 && v.dim() == 4, "comba::scan: q, v: expected [B, T, H, D], got ",
              q.sizes(), " and ", v.sizes());
  return {at::empty_symint(v.sym_sizes(), q.options()),
          at::empty_symint({q.sym_size(0), q.sym_size(2), q.sym_size(3), v.sym_size(3)},
                           q.options().dtype(accum_dtype(q)))};
}

ScanGradientTuple scan_backward(const OptionalTensor&, const OptionalTensor&, const at::Tensor& q,
                                const at::Tensor& k, const at::Tensor& v,
                                const at::Tensor& log_alpha, const at::Tensor& beta,
                                const at::Tensor& c, const OptionalTensor& d,
                                const OptionalTensor& initial_state, double, bool, bool) {
  return {like(q),    like(k), like(v),    like(log_alpha),
          like(beta), like(c), like(d, q), like(initial_state, q)};
}

at::Tensor bidirectional_scan(const at::Tensor& q, const at::Tensor&, const at::Tensor& v,
                              const at::Tensor& log_alpha, const at::Tensor&, const at::Tensor&,
                              const OptionalTensor&, double, bool, c10::string_view merge) {
  TORCH_CHECK(log_alpha.dim() == 4 && v.dim() >= 4,
              "comba::bidirectional_scan: log_alpha: expected ", "[R, B, T, H], got ",
              log_alpha.sizes());
  c10::SymDimVector sizes(log_alpha.sym_sizes().begin(), log_alpha.sym_sizes().end());
  sizes.push_back(v.sym_size(-1));
  if (merge != "none") {
    sizes.erase(sizes.begin());
  }
  return at::empty_symint(sizes, q.options());
}

BidirectionalGradientTuple bidirectional_scan_backward(const at::Tensor&, const at::Tensor& q,
                                                       const at::Tensor& k, const at::Tensor& v,
                                                       const at::Tensor& log_alpha,
                                                       const at::Tensor& beta, const at::Tensor& c,
                                                       const OptionalTensor& d, double, bool,
                                                       c10::string_view) {
  return {like(q), like(k), like(v), like(log_alpha), like(beta), like(c), like(d, q)};
}

}  // namespace

TORCH_LIBRARY_IMPL(comba, Meta, m) {
  m.impl("scan", &scan);
  m.impl("scan_backward", &scan_backward);
  m.impl("bidirectional_scan", &bidirectional_scan);
  m.impl("bidirectional_scan_backward", &bidirectional_scan_backward);
}

}  // namespace comba::kernels
