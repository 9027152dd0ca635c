// The recurrence of kernels/scan.h in LibTorch's own operations, in chunks: for graphs that have to run without our operators.
// A chunk's corrections are a triangular system, solved by inverses of diagonal blocks that double in size. Each of them is
// exact, so that equal keys, as flat images have them, lose no digits; powers of the system's matrix would.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::kernels {

// The second direction's heads beside the first's, turned round: both are then read in the order of t. [B, T, H, ..] along `dim`.
at::Tensor join_directions(const at::Tensor& first, const at::Tensor& second, int64_t dim);

// As the arguments of scan() and bidirectional_scan() (kernels/scan.h), which have the same results; any floating dtype,
// computed in fp32 (fp64 for fp64 inputs). Differentiable as its operations are.
struct ScanInputs {
  at::Tensor q, k, v, log_alpha, beta, c;
  at::Tensor d;              // or undefined
  at::Tensor initial_state;  // or undefined; not for both directions
  double scale = 1.0;
  bool decayed_feedback = false;
};

// Keeps what depends on the length of a chunk alone, so that a graph that calls it often computes it once.
class ChunkedScan {
 public:
  std::tuple<at::Tensor, at::Tensor> scan(const ScanInputs& inputs, bool reverse);
  at::Tensor bidirectional(const ScanInputs& inputs, std::string_view merge);
  // The same of joined directions (below): q, k, v [B, T, 2 H, D], gates [B, T, 2 H], d [2 H] or undefined.
  at::Tensor joined(const ScanInputs& inputs, std::string_view merge);

 private:
  struct Chunks;
  struct Walked;
  Chunks make_chunks(const ScanInputs& inputs, int64_t count);
  // From chunk to chunk, `state` before the first or undefined.
  static Walked walk(const Chunks& chunks, at::Tensor state, bool final_state);
  // Forward over t; the final state is undefined unless asked for.
  std::tuple<at::Tensor, at::Tensor> forward(const ScanInputs& inputs, bool final_state);
  // (I + a)^-1 of strictly lower triangular a [.., C, C]
  at::Tensor inverse(const at::Tensor& a);
  const std::vector<at::Tensor>& levels(const at::Tensor& like);

  std::map<int64_t, std::vector<at::Tensor>> levels_;  // by C
};

}  // namespace comba::kernels
