// What the kernels around the scan see: pointers, strides, sizes; no torch. See mixer.h for the formulas.
#pragma once

#include <cstdint>

namespace comba::kernels {

constexpr double kRowNormEps = 1e-6;

struct MixerShape {
  int64_t directions = 2, batch = 0, length = 0, heads = 0, dim = 0, taps = 0;
};

// q_r, k_r, v_r from the raw projections. Accum: float, or double for fp64 inputs.
template <typename Accum>
struct MixerRows {
  MixerShape shape;
  const void* qkv = nullptr;  // [B, T, 3, H, D], element strides below, last 1
  int64_t batch_stride = 0, time_stride = 0, part_stride = 0, head_stride = 0;
  const Accum* taps = nullptr;  // [R, 3, H, D, taps] contiguous
  bool normalize = true;
  bool silu = true;
  void* rows[3] = {};  // q, k, v: [R, B, T, H, D] contiguous
};

template <typename Accum>
struct MixerRowGradients {
  MixerRows<Accum> forward;       // its rows are not used
  const void* grad_rows[3] = {};  // [R, B, T, H, D] contiguous
  void* grad_qkv = nullptr;       // [B, T, 3, H, D] contiguous
  Accum* grad_taps = nullptr;  // [partials, R, 3, H, D, taps], each a sum over some of the tokens
  int64_t partials = 1;
};

template <typename Accum>
struct MixerOutput {
  MixerShape shape;
  const void* o = nullptr;     // [R, B, T, H, D] contiguous
  bool apart = false;          // S = 2 sides, one of each direction; else S = 1
  Accum factor = 1;            // of the sum of a side's directions
  const void* gate = nullptr;  // [B, T, H, D], element strides below, last 1; or null
  int64_t gate_batch_stride = 0, gate_time_stride = 0, gate_head_stride = 0;
  const Accum* weight = nullptr;  // [D]
  Accum eps = 0;
  void* merged = nullptr;  // [B, T, S, H, D] contiguous, like y
  void* y = nullptr;
};

template <typename Accum>
struct MixerOutputGradients {
  MixerOutput<Accum> forward;    // its o and y are not used
  const void* grad_y = nullptr;  // [B, T, S, H, D] contiguous
  void* grad_o = nullptr;        // of the merged o, before `factor`; like grad_y
  void* grad_gate = nullptr;     // [B, T, H, D] contiguous
  Accum* grad_weight = nullptr;  // [partials, D]
  int64_t partials = 1;
};

}  // namespace comba::kernels
