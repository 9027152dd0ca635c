// Shapes and dtypes of the gates' operators.
#include "kernels/gates_operators.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

namespace comba::kernels {
namespace {

at::TensorOptions wide(const at::Tensor& raw) {
  return raw.options().dtype(raw.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

GateTensors gates(const at::Tensor& raw, const at::Tensor&, const at::Tensor&,
                  const std::optional<at::Tensor>&, double) {
  TORCH_CHECK(raw.dim() == 5, "comba::gates: raw: expected [B, T, 2, R, H], got ", raw.sizes());
  const c10::SymDimVector sizes = {raw.sym_size(3), raw.sym_size(0), raw.sym_size(1),
                                   raw.sym_size(4)};
  const auto empty = [&] { return at::empty_symint(sizes, wide(raw)); };
  return {empty(), empty(), empty()};
}

GateGradientTuple gates_backward(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                 const at::Tensor& raw, const at::Tensor& A_log,
                                 const at::Tensor& dt_bias, const std::optional<at::Tensor>& decay,
                                 double) {
  const auto like = [](const at::Tensor& x) {
    return at::empty_symint(x.sym_sizes(), x.options());
  };
  return {like(raw), like(A_log), like(dt_bias),
          decay && decay->defined() ? like(*decay) : at::empty({0}, wide(raw))};
}

}  // namespace

TORCH_LIBRARY_IMPL(comba, Meta, m) {
  m.impl("gates", &gates);
  m.impl("gates_backward", &gates_backward);
}

}  // namespace comba::kernels
