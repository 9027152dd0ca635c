// comba::add_norm by LibTorch's operators: the CPU's implementation, and any device's for what it has no kernel for.
#include "kernels/block/add_norm_operators.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/rsqrt.h>

namespace comba::kernels {
namespace {

// [rows, 1] in the accumulation dtype
at::Tensor shares_of_rows(const AddNormProblem& p) {
  return p.share.repeat_interleave(p.rows_a_share).unsqueeze(1);
}

// The centred or plain rows over their root mean square, and that root's inverse.
struct Normalised {
  at::Tensor rows, scale;

  Normalised(const AddNormProblem& p, const at::Tensor& sum) {
    const at::Tensor x = sum.to(p.weight.scalar_type());
    const at::Tensor centred = p.centred ? x - x.mean(-1, true) : x;
    scale = centred.square().mean(-1, true).add_(p.eps).rsqrt_();
    rows = centred * scale;
  }
};

}  // namespace

void compose_add_norm(const AddNormProblem& p, const at::Tensor& sum, const at::Tensor& y) {
  if (p.branch.defined()) {
    const auto accum = p.weight.scalar_type();
    const at::Tensor branch = p.branch.to(accum);
    sum.copy_(p.share.defined() ? at::addcmul(p.x.to(accum), branch, shares_of_rows(p))
                                : p.x.to(accum) + branch);
  }
  const at::Tensor product = Normalised(p, p.branch.defined() ? sum : p.x).rows.mul_(p.weight);
  y.copy_(p.bias.defined() ? product + p.bias : product);
}

// With n the normalised rows and g = grad_y weight: grad_sum + scale (g - n mean(g n) - mean(g)), the last if centred.
void compose_add_norm_backward(const AddNormProblem& p, const at::Tensor& grad_sum,
                               const at::Tensor& grad_y, AddNormGradients& out) {
  const Normalised normalised(p, p.x);
  const at::Tensor dy = grad_y.to(p.weight.scalar_type()), g = dy * p.weight;
  at::Tensor grad = at::addcmul(g, normalised.rows, (g * normalised.rows).mean(-1, true), -1.0);
  if (p.centred) {
    grad.sub_(g.mean(-1, true));
  }
  grad.mul_(normalised.scale);
  if (grad_sum.defined()) {
    grad.add_(grad_sum);
  }
  out.x.copy_(grad);
  if (out.branch.defined()) {
    out.branch.copy_(p.share.defined() ? grad * shares_of_rows(p) : grad);
  }
  out.weight = (dy * normalised.rows).sum(0);
  if (out.bias.defined()) {
    out.bias = dy.sum(0);
  }
}

namespace {

constexpr AddNormBackend kBackend{&compose_add_norm, &compose_add_norm_backward};

}  // namespace

TORCH_LIBRARY_IMPL(comba, CPU, m) { register_add_norm<&kBackend>(m); }

}  // namespace comba::kernels
