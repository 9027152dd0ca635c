#include "kernels/composed/chunked_selective_scan.h"

#include "kernels/composed/chunks.h"

#include <cmath>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/cumsum.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/split.h>

namespace comba::kernels {
namespace {

constexpr int64_t kCount = 1, kLength = 2;  // of [B, chunks, tokens of one, C, N]

// state_i = decay_i state_{i-1} + added_i along `dim`, from 0.
std::vector<at::Tensor> states_along(const at::Tensor& decay, const at::Tensor& added,
                                     int64_t dim) {
  const std::vector<at::Tensor> factors = at::split(decay, 1, dim);
  std::vector<at::Tensor> states = at::split(added, 1, dim);
  for (size_t i = 1; i < states.size(); ++i) {
    states[i] = states[i - 1] * factors[i] + states[i];
  }
  return states;
}

// C_t . h_t of tokens in the order of t: dt, u [B, T, C]; A [C, N]; B, C [B, T, N] -> [B, T, C]
at::Tensor forward(const at::Tensor& dt, const at::Tensor& u, const at::Tensor& A,
                   const at::Tensor& B, const at::Tensor& C) {
  const int64_t tokens = u.size(1),
                length = static_cast<int64_t>(std::ceil(std::sqrt(static_cast<double>(tokens)))),
                count = (tokens + length - 1) / length;
  const auto cut = [&](const at::Tensor& x) { return cut_into_chunks(x, count, length); };
  // Behind the last token nothing decays and nothing is written.
  const at::Tensor steps = cut(dt);  // [B, chunks, tokens of one, C]
  const at::Tensor decay = at::exp(steps.unsqueeze(-1) * A),
                   written = cut(dt * u).unsqueeze(-1) * cut(B).unsqueeze(-2);
  at::Tensor states = at::cat(states_along(decay, written, kLength), kLength);
  if (count > 1) {
    const at::Tensor since = at::exp(at::cumsum(steps, kLength).unsqueeze(-1) * A);
    const auto ends = [&](const at::Tensor& x) {
      return x.narrow(kCount, 0, count - 1).narrow(kLength, length - 1, 1);
    };
    const at::Tensor behind = at::cat(states_along(ends(since), ends(states), kCount), kCount);
    states = states + since * at::constant_pad_nd(behind, {0, 0, 0, 0, 0, 0, 1, 0});
  }
  const at::Tensor read = at::matmul(states, cut(C).unsqueeze(-1)).squeeze(-1);
  return read.flatten(kCount, kLength).narrow(1, 0, tokens);
}

}  // namespace

at::Tensor chunked_selective_scan(const SelectiveScanInputs& in, bool reverse) {
  const auto turned = [&](const at::Tensor& x) { return reverse ? at::flip(x, {1}) : x; };
  const at::Tensor u = widened(in.u, in.u), delta = widened(in.delta, in.u);
  const at::Tensor dt =
      at::softplus(in.delta_bias.defined() ? delta + widened(in.delta_bias, in.u) : delta, 1, 40);
  at::Tensor y = turned(forward(turned(dt), turned(u), widened(in.A, in.u),
                                turned(widened(in.B, in.u)), turned(widened(in.C, in.u))));
  if (in.D.defined()) {
    y = y + u * widened(in.D, in.u);
  }
  if (in.z.defined()) {
    y = y * at::silu(widened(in.z, in.u));
  }
  return y.to(in.u.scalar_type());
}

}  // namespace comba::kernels
