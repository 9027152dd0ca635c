#include "kernels/block/join_columns.h"

#include "kernels/block/join_columns_operators.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

namespace comba::kernels {
namespace {

constexpr const char* kOp = "comba::join_columns";

at::Tensor join_columns_meta(const at::Tensor& first, const at::Tensor& second, int64_t multiple) {
  const auto columns = first.sym_size(1) + second.sym_size(1);
  return at::empty_symint({first.sym_size(0), (columns + multiple - 1) / multiple * multiple},
                          first.options());
}

}  // namespace

int64_t joined_width(const at::Tensor& first, const at::Tensor& second, int64_t multiple) {
  TORCH_CHECK(
      first.dim() == 2 && second.dim() == 2 && first.size(0) == second.size(0) && multiple > 0, kOp,
      ": expected shapes [n, a] and [n, b], got ", first.sizes(), " and ", second.sizes());
  return (first.size(1) + second.size(1) + multiple - 1) / multiple * multiple;
}

at::Tensor compose_join_columns(const at::Tensor& first, const at::Tensor& second,
                                int64_t multiple) {
  const int64_t missing = joined_width(first, second, multiple) - first.size(1) - second.size(1);
  return at::cat(
      {first, second.to(first.scalar_type()), at::zeros({first.size(0), missing}, first.options())},
      1);
}

at::Tensor join_columns(const at::Tensor& first, const at::Tensor& second, int64_t multiple) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow(kOp, "")
                             .typed<at::Tensor(const at::Tensor&, const at::Tensor&, int64_t)>();
  return op.call(first, second, multiple);
}

TORCH_LIBRARY_IMPL(comba, CPU, m) { m.impl("join_columns", &compose_join_columns); }
TORCH_LIBRARY_IMPL(comba, Meta, m) { m.impl("join_columns", &join_columns_meta); }
TORCH_LIBRARY_IMPL(comba, Autograd, m) {
  m.impl("join_columns", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace comba::kernels
