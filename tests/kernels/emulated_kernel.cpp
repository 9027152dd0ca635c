#include "tests/kernels/emulated_kernel.h"

#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cumsum.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_inv.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>

namespace comba::kernels::test {
namespace {

constexpr int64_t kChunk = 64;

// One direction; rows [B, H, T, D], gates [B, H, T] in scan order, d [H, 1, 1], all fp64.
struct Chunked {
  at::Tensor q, k, v, log_alpha, beta, c, d;
  double scale;
  bool decayed_feedback;
  at::ScalarType dtype;

  // Autograd casts the gradient of a cast back, so that it is rounded as well.
  at::Tensor stored(const at::Tensor& x) const {
    return dtype == at::kDouble ? x : x.to(dtype).to(at::kDouble);
  }

  // O of tokens first .. first + size - 1; `state` [B, H, Dk, Dv] becomes S after them.
  at::Tensor run_chunk(at::Tensor& state, int64_t first, int64_t size) const {
    const auto rows = [&](const at::Tensor& x) { return x.narrow(2, first, size); };
    const at::Tensor keys = rows(k), queries = rows(q) - d * keys;
    const at::Tensor g = at::cumsum(rows(log_alpha), -1);
    const at::Tensor e = decayed_feedback ? g : g - rows(log_alpha);
    const at::Tensor strength = rows(c).unsqueeze(-1);
    const auto decay = [&](const at::Tensor& later) {  // exp(later_i - g_j) for j <= i
      return (later.unsqueeze(-1) - g.unsqueeze(-2)).tril().exp().tril();
    };
    const at::Tensor identity = at::eye(size, g.options());
    const at::Tensor a = (strength * at::matmul(keys, keys.mT()) * decay(e)).tril(-1);
    const at::Tensor inverse = stored(at::linalg_inv(identity + a));
    const at::Tensor w = stored(at::matmul(inverse, strength * e.exp().unsqueeze(-1) * keys));
    const at::Tensor u = stored(at::matmul(inverse, rows(beta).unsqueeze(-1) * rows(v)));
    const at::Tensor before = stored(state);
    const at::Tensor update = stored(u - at::matmul(w, before));
    const at::Tensor attention = stored((at::matmul(queries, keys.mT()) * decay(g)).tril());
    const at::Tensor o =
        at::matmul(stored(queries * g.exp().unsqueeze(-1)), before) + at::matmul(attention, update);
    const at::Tensor end = g.narrow(-1, size - 1, 1);
    const at::Tensor written = stored(update * (end - g).exp().unsqueeze(-1));
    state = end.exp().unsqueeze(-1) * state + at::matmul(keys.mT(), written);
    return scale * o;
  }

  at::Tensor run() const {
    at::Tensor state = at::zeros({q.size(0), q.size(1), k.size(3), v.size(3)}, q.options());
    std::vector<at::Tensor> o;
    for (int64_t t = 0; t < q.size(2); t += kChunk) {
      o.push_back(run_chunk(state, t, std::min(kChunk, q.size(2) - t)));
    }
    return stored(at::cat(o, 2));
  }
};

at::Tensor run_direction(const ScanInputs& in, int64_t direction, at::ScalarType dtype) {
  const bool own = in.q.dim() == 5;
  const auto in_order = [&](const at::Tensor& x) {  // [B, T, ..] -> [B, H, T, ..]
    return (direction == 1 ? x.flip(1) : x).transpose(1, 2);
  };
  Chunked run;
  run.dtype = dtype;
  run.q = run.stored(in_order(own ? in.q[direction] : in.q));
  run.k = run.stored(in_order(own ? in.k[direction] : in.k));
  run.v = run.stored(in_order(own ? in.v[direction] : in.v));
  run.log_alpha = in_order(in.log_alpha[direction]);
  run.beta = in_order(in.beta[direction]);
  run.c = in_order(in.c[direction]);
  run.d = (in.d.dim() == 2 ? in.d[direction] : in.d).view({-1, 1, 1});
  run.scale = in.scale;
  run.decayed_feedback = in.decayed_feedback;
  const at::Tensor o = run.run().transpose(1, 2);
  return direction == 1 ? o.flip(1) : o;
}

}  // namespace

OperatorResult emulated_kernel(const ScanInputs& inputs, const at::Tensor& grad_o,
                               at::ScalarType dtype) {
  ScanInputs in = inputs;
  std::vector<at::Tensor> leaves;
  for (auto& [name, x] : tensors_of(in)) {
    if (x->defined()) {
      *x = x->detach().to(at::kCPU, at::kDouble).requires_grad_(true);
      leaves.push_back(*x);
    }
  }
  const at::Tensor both = at::stack({run_direction(in, 0, dtype), run_direction(in, 1, dtype)});
  const at::Tensor o = in.merge == "none" ? both : in.merge == "sum" ? both.sum(0) : both.mean(0);
  const auto found = torch::autograd::grad({o}, leaves, {grad_o.to(at::kDouble)});
  const auto stored = [&](const at::Tensor& x) { return x.detach().to(dtype).to(at::kDouble); };
  OperatorResult result;
  result.values.o = stored(o);
  result.gradients = {stored(found[0]), stored(found[1]), stored(found[2]), found[3],
                      found[4],         found[5],         found[6],         {}};
  return result;
}

}  // namespace comba::kernels::test
