#include "kernels/block/column_sums.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

namespace comba::kernels {
namespace {

at::ScalarType accum_of(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor column_sums_cpu(const at::Tensor& x) {
  TORCH_CHECK(x.dim() >= 1 && at::isFloatingType(x.scalar_type()),
              "comba::column_sums: x: expected [..., f] of a floating dtype, got ", x.scalar_type(),
              " ", x.sizes());
  return x.flatten(0, -2).sum(0, /*keepdim=*/false, accum_of(x));
}

at::Tensor column_sums_meta(const at::Tensor& x) {
  return at::empty_symint({x.sym_size(-1)}, x.options().dtype(accum_of(x)));
}

}  // namespace

at::Tensor column_sums(const at::Tensor& x) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("comba::column_sums", "")
                             .typed<at::Tensor(const at::Tensor&)>();
  return op.call(x);
}

TORCH_LIBRARY_IMPL(comba, CPU, m) { m.impl("column_sums", &column_sums_cpu); }
TORCH_LIBRARY_IMPL(comba, Meta, m) { m.impl("column_sums", &column_sums_meta); }
TORCH_LIBRARY_IMPL(comba, Autograd, m) {
  m.impl("column_sums", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace comba::kernels
