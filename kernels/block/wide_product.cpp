#include "kernels/block/wide_product.h"

#include <ATen/ops/mm.h>

namespace comba::kernels {

at::Tensor wide_product(const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() != at::kHalf && a.scalar_type() != at::kBFloat16) {
    return at::mm(a, b);
  }
  return a.is_cuda() ? at::mm(a, b, at::kFloat) : at::mm(a.to(at::kFloat), b.to(at::kFloat));
}

}  // namespace comba::kernels
