// What a scan kernel sees: raw pointers, element strides, sizes. No torch types, so that .cu files
// and the per-instruction-set CPU files compile alone.
#pragma once

#include "kernels/host_device.h"

#include <cstdint>

namespace comba::kernels {

// Element strides of a [R, B, T, H, D] tensor whose last stride is 1. Inputs shared by both
// directions have direction stride 0.
struct RowStrides {
  int64_t direction = 0, batch = 0, time = 0, head = 0;
};

// Accum: float, or double for fp64 inputs. R directions (1 or 2); a task is one (direction, batch,
// head), numbered n = (r * B + b) * H + h.
template <typename Accum>
struct ScanParams {
  const void* q = nullptr;  // [R, B, T, H, Dk] element type of the operator's inputs
  const void* k = nullptr;  // [R, B, T, H, Dk]
  const void* v = nullptr;  // [R, B, T, H, Dv]
  RowStrides q_strides, k_strides, v_strides;
  const Accum* log_alpha = nullptr;      // [R, B, T, H] contiguous
  const Accum* beta = nullptr;           // [R, B, T, H] contiguous
  const Accum* c = nullptr;              // [R, B, T, H] contiguous, feedback strength
  const Accum* d = nullptr;              // [R, H] contiguous, output correction
  const Accum* initial_state = nullptr;  // [R, B, H, Dk, Dv] contiguous, or null for zero
  int64_t directions = 1, batch = 0, length = 0, heads = 0;
  int64_t key_dim = 0, value_dim = 0;
  Accum scale = 1;
  bool decayed_feedback = false;
  bool reverse = false;  // direction 0 runs backward over t (and direction 1 forward)

  COMBA_HOST_DEVICE int64_t tasks() const { return directions * batch * heads; }
};

template <typename Accum>
struct ScanOutputs {
  Accum* o = nullptr;            // [R, B, T, H, Dv] contiguous
  Accum* final_state = nullptr;  // [R, B, H, Dk, Dv] contiguous
};

template <typename Accum>
struct ScanGradients {
  const Accum* grad_o = nullptr;  // [R, B, T, H, Dv], last stride 1
  RowStrides grad_o_strides;
  const Accum* grad_final_state = nullptr;  // [R, B, H, Dk, Dv] contiguous, or null for zero
  // outputs, all contiguous
  Accum* grad_q = nullptr;              // [R, B, T, H, Dk]
  Accum* grad_k = nullptr;              // [R, B, T, H, Dk]
  Accum* grad_v = nullptr;              // [R, B, T, H, Dv]
  Accum* grad_log_alpha = nullptr;      // [R, B, T, H]
  Accum* grad_beta = nullptr;           // [R, B, T, H]
  Accum* grad_c = nullptr;              // [R, B, T, H]
  Accum* grad_d = nullptr;              // [R, B, H]: one partial sum a task
  Accum* grad_initial_state = nullptr;  // [R, B, H, Dk, Dv]
};

// One task's place in every tensor. Tokens are visited in scan order s = 0 .. T-1 at time(s).
struct ScanTask {
  int64_t direction, batch, head;
  bool reversed;
  int64_t length;

  template <typename Accum>
  COMBA_HOST_DEVICE ScanTask(const ScanParams<Accum>& p, int64_t n)
      : direction(n / (p.batch * p.heads)),
        batch(n / p.heads % p.batch),
        head(n % p.heads),
        reversed((direction == 1) != p.reverse),
        length(p.length) {}

  COMBA_HOST_DEVICE int64_t time(int64_t s) const { return reversed ? length - 1 - s : s; }
  // Offset of row (s) in a [R, B, T, H, D] tensor.
  COMBA_HOST_DEVICE int64_t row(const RowStrides& strides, int64_t s) const {
    return direction * strides.direction + batch * strides.batch + time(s) * strides.time +
           head * strides.head;
  }
};

}  // namespace comba::kernels
