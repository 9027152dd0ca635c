#include "kernels/composed/chunked_scan.h"

#include "kernels/composed/chunks.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/clamp_max.h>
#include <ATen/ops/cumsum.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/floor.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/split.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tril.h>

namespace comba::kernels {
namespace {

constexpr int64_t kLongestChunk = 32;
constexpr int64_t kChunkDim = 2;  // of [B, H, N, C, ..]

// [B, T, H, ..] -> [B, H, N, C, ..], zeros behind the last token
at::Tensor in_chunks(const at::Tensor& x, int64_t count, int64_t length) {
  const at::Tensor cut = cut_into_chunks(x, count, length);
  return x.dim() == 4 ? cut.permute({0, 3, 1, 2, 4}) : cut.permute({0, 3, 1, 2});
}

at::Tensor columns(const at::Tensor& x) { return x.unsqueeze(-1); }

// exp(rows_i - g_j) where that is at most 0, which it is below the diagonal; 1 elsewhere, for others to cut off.
at::Tensor decay_between(const at::Tensor& rows, const at::Tensor& g) {
  return at::exp(at::clamp_max(columns(rows) - g.unsqueeze(-2), 0));
}

}  // namespace

at::Tensor join_directions(const at::Tensor& first, const at::Tensor& second, int64_t dim) {
  return at::cat({first, at::flip(second, {1})}, dim);
}

// What the walk over the chunks needs of each, all [B, H, N, .., ..].
struct ChunkedScan::Chunks {
  at::Tensor write;   // [C, Dv] M diag(beta) V
  at::Tensor read;    // [C, Dk] M diag(c e^e) K
  at::Tensor keys;    // [Dk, C] (diag(e^(G - g)) K)^T
  at::Tensor fade;    // [1, 1] e^G
  at::Tensor inside;  // [C, C] what tokens read of their own chunk's writes
  at::Tensor before;  // [C, Dk] what they read the state before it with
};

struct ChunkedScan::Walked {
  std::vector<at::Tensor> states, written;  // of chunks that have a state before them; of all
  at::Tensor last;                          // state, if it was asked for
};

// The first is the unit matrix, the others choose, of blocks of 2 b rows, the lower left quarter; b = 1, 2, 4, ...
const std::vector<at::Tensor>& ChunkedScan::levels(const at::Tensor& like) {
  const int64_t length = like.size(-1);
  std::vector<at::Tensor>& found = levels_[length];
  if (found.empty()) {
    const at::Tensor index = at::cumsum(like.new_ones({length}), 0) - 1;
    const auto equal = [&](const at::Tensor& a, const at::Tensor& b) {
      return (columns(a) == b.unsqueeze(0)).to(like.scalar_type());
    };
    found.push_back(equal(index, index));
    for (int64_t b = 1; b < length; b *= 2) {
      const at::Tensor block = at::floor(index / static_cast<double>(b));
      const at::Tensor pair = at::floor(index / static_cast<double>(2 * b));
      found.push_back(equal(block, block + 1) * equal(pair, pair));
    }
  }
  return found;
}

at::Tensor ChunkedScan::inverse(const at::Tensor& a) {
  const std::vector<at::Tensor>& level = levels(a);
  at::Tensor m = level[0];
  for (size_t i = 1; i < level.size(); ++i) {
    const at::Tensor corner = a * level[i];
    m = i == 1 ? m - corner : m - at::matmul(at::matmul(m, corner), m);
  }
  return m;
}

ChunkedScan::Chunks ChunkedScan::make_chunks(const ScanInputs& in, int64_t count) {
  const int64_t length = (in.q.size(1) + count - 1) / count;
  const auto cut = [&](const at::Tensor& x) { return in_chunks(widened(x, in.q), count, length); };
  const at::Tensor k = cut(in.k), v = cut(in.v), beta = cut(in.beta), c = cut(in.c);
  at::Tensor q = cut(in.q);
  if (in.d.defined()) {
    q = q - k * widened(in.d, in.q).view({-1, 1, 1, 1});
  }
  q = q * in.scale;
  const at::Tensor log_alpha = cut(in.log_alpha), g = at::cumsum(log_alpha, -1),
                   rows = in.decayed_feedback ? g : g - log_alpha,
                   total = g.narrow(-1, length - 1, 1), transposed = k.transpose(-1, -2);
  const at::Tensor between = decay_between(g, g);
  const at::Tensor a =
      at::tril((in.decayed_feedback ? between : decay_between(rows, g)) * at::matmul(k, transposed),
               -1) *
      columns(c);
  const at::Tensor solved =
      at::matmul(inverse(a), at::cat({v * columns(beta), k * columns(c * at::exp(rows))}, -1));
  Chunks chunks;
  chunks.write = solved.narrow(-1, 0, v.size(-1));
  chunks.read = solved.narrow(-1, v.size(-1), k.size(-1));
  chunks.keys = transposed * at::exp(total - g).unsqueeze(-2);
  chunks.fade = columns(at::exp(total));
  chunks.inside = at::tril(between * at::matmul(q, transposed));
  chunks.before = q * columns(at::exp(g));
  return chunks;
}

ChunkedScan::Walked ChunkedScan::walk(const Chunks& chunks, at::Tensor state, bool final_state) {
  const auto apart = [&](const at::Tensor& x) { return at::split(x, 1, kChunkDim); };
  const auto write = apart(chunks.write), read = apart(chunks.read), keys = apart(chunks.keys),
             fade = apart(chunks.fade);
  Walked walked;
  for (size_t n = 0; n < write.size(); ++n) {
    walked.written.push_back(state.defined() ? write[n] - at::matmul(read[n], state) : write[n]);
    if (state.defined()) {
      walked.states.push_back(state);
    }
    if (final_state || n + 1 < write.size()) {
      const at::Tensor added = at::matmul(keys[n], walked.written[n]);
      state = state.defined() ? state * fade[n] + added : added;
    }
  }
  walked.last = state;
  return walked;
}

std::tuple<at::Tensor, at::Tensor> ChunkedScan::forward(const ScanInputs& in, bool final_state) {
  const int64_t tokens = in.q.size(1), count = (tokens + kLongestChunk - 1) / kLongestChunk;
  const Chunks chunks = make_chunks(in, count);
  const auto [states, written, last] = walk(
      chunks, in.initial_state.defined() ? in.initial_state.unsqueeze(kChunkDim) : at::Tensor(),
      final_state);
  at::Tensor o = at::matmul(chunks.inside, at::cat(written, kChunkDim));
  if (!states.empty()) {
    const auto behind = static_cast<int64_t>(states.size()), first = count - behind;
    const at::Tensor earlier =
        at::matmul(chunks.before.narrow(kChunkDim, first, behind), at::cat(states, kChunkDim));
    o = first == 0
            ? o + earlier
            : at::cat({o.narrow(kChunkDim, 0, first), o.narrow(kChunkDim, first, behind) + earlier},
                      kChunkDim);
  }
  o = o.permute({0, 2, 3, 1, 4}).flatten(1, 2).narrow(1, 0, tokens);
  return {o.to(in.q.scalar_type()), final_state ? last.squeeze(kChunkDim) : at::Tensor()};
}

std::tuple<at::Tensor, at::Tensor> ChunkedScan::scan(const ScanInputs& inputs, bool reverse) {
  if (!reverse) {
    return forward(inputs, /*final_state=*/true);
  }
  ScanInputs turned = inputs;
  for (at::Tensor* x :
       {&turned.q, &turned.k, &turned.v, &turned.log_alpha, &turned.beta, &turned.c}) {
    *x = at::flip(*x, {1});
  }
  const auto [o, state] = forward(turned, /*final_state=*/true);
  return {at::flip(o, {1}), state};
}

at::Tensor ChunkedScan::bidirectional(const ScanInputs& inputs, std::string_view merge) {
  ScanInputs both = inputs;
  for (at::Tensor* x : {&both.q, &both.k, &both.v}) {
    *x = x->dim() == 5 ? join_directions(x->select(0, 0), x->select(0, 1), 2)
                       : join_directions(*x, *x, 2);
  }
  for (at::Tensor* x : {&both.log_alpha, &both.beta, &both.c}) {
    *x = join_directions(x->select(0, 0), x->select(0, 1), 2);
  }
  if (inputs.d.defined()) {
    both.d = inputs.d.dim() == 2 ? inputs.d.flatten() : at::cat({inputs.d, inputs.d});
  }
  return joined(both, merge);
}

at::Tensor ChunkedScan::joined(const ScanInputs& inputs, std::string_view merge) {
  const at::Tensor o = std::get<0>(forward(inputs, /*final_state=*/false));
  const int64_t heads = inputs.log_alpha.size(-1) / 2;
  const at::Tensor first = o.narrow(2, 0, heads), second = at::flip(o.narrow(2, heads, heads), {1});
  if (merge == "none") {
    return at::stack({first, second});
  }
  const at::Tensor sum = first + second;
  return merge == "mean" ? sum * 0.5 : sum;
}

}  // namespace comba::kernels
