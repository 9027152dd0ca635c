// The gates' operator on the CPU, by LibTorch's own operations: it is a thousandth of a mixer's work.
#include "kernels/gates_operators.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/stack.h>

namespace comba::kernels {
namespace {

constexpr int64_t kBatchAndTimeDims[] = {1, 2};

// What both passes need, [R, B, T, H] or [R, 1, 1, H].
struct Terms {
  at::Tensor a, beta, rate, feedback;

  explicit Terms(const GateProblem& p) {
    const at::Tensor raw = p.raw.permute({2, 3, 0, 1, 4});
    const auto per_head = [](const at::Tensor& x) { return x.unsqueeze(1).unsqueeze(1); };
    a = raw[0] + per_head(p.dt_bias);
    beta = raw[1].sigmoid();
    rate = per_head(p.A_log).exp();
    feedback = per_head(p.decay.defined() ? p.decay.sigmoid() : at::ones_like(p.A_log));
  }
};

void forward(const GateProblem& p, const GateTensors& gates) {
  const Terms terms(p);
  // The threshold beyond which softplus(a) is a: none that a dtype could notice.
  std::get<0>(gates).copy_(-terms.rate * at::softplus(terms.a, 1, 40));
  std::get<1>(gates).copy_(terms.beta);
  std::get<2>(gates).copy_(terms.beta * terms.feedback * p.feedback);
}

at::Tensor backward(const GateProblem& p, const GateTensors& grads, const at::Tensor& grad_raw) {
  const Terms terms(p);
  const auto& [grad_log_alpha, grad_beta, grad_c] = grads;
  const at::Tensor slope = terms.beta * (1 - terms.beta);
  const at::Tensor grad_a = -grad_log_alpha * terms.rate * terms.a.sigmoid();
  const at::Tensor grad_b = (grad_beta + grad_c * terms.feedback * p.feedback) * slope;
  grad_raw.copy_(at::stack({grad_a, grad_b}).permute({2, 3, 0, 1, 4}));
  const at::Tensor grad_rate = -grad_log_alpha * at::softplus(terms.a, 1, 40);
  const at::Tensor by_decay =
      grad_c * terms.beta * (p.feedback * terms.feedback * (1 - terms.feedback));
  return at::stack({(grad_rate * terms.rate).sum(kBatchAndTimeDims), grad_a.sum(kBatchAndTimeDims),
                    by_decay.sum(kBatchAndTimeDims)});
}

constexpr GateBackend kBackend{&forward, &backward};

}  // namespace

TORCH_LIBRARY_IMPL(comba, CPU, m) { register_gate_operators<&kBackend>(m); }

}  // namespace comba::kernels
