// What both recurrences in chunks have in common.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/constant_pad_nd.h>

namespace comba::kernels {

// In the dtype in which a recurrence of `like` is computed: fp32, fp64 for fp64.
inline at::Tensor widened(const at::Tensor& x, const at::Tensor& like) {
  return x.to(like.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

// [B, T, ..] -> [B, count, length, ..], zeros behind the last token
inline at::Tensor cut_into_chunks(const at::Tensor& x, int64_t count, int64_t length) {
  const int64_t missing = count * length - x.size(1);
  at::Tensor whole = x;
  if (missing > 0) {
    std::vector<int64_t> pad(static_cast<size_t>(2 * (x.dim() - 1)), 0);
    pad.back() = missing;
    whole = at::constant_pad_nd(x, pad);
  }
  return whole.unflatten(1, {count, length});
}

}  // namespace comba::kernels
