// The Comba recurrence one token at a time in fp64, with its gradients: what `comba check` compares
// every device with. Slow and plain on purpose; one (batch, head), row-major arrays, no torch.
#pragma once

#include <cstddef>
#include <vector>

namespace comba::tools {

struct Recurrence {
  size_t length = 0, key_dim = 0, value_dim = 0;
  std::vector<double> q, k;                // [T, Dk]
  std::vector<double> v;                   // [T, Dv]
  std::vector<double> log_alpha, beta, c;  // [T]
  double d = 0, scale = 1;
  bool decayed_feedback = false;
};

struct RecurrenceResult {
  std::vector<double> o;                   // [T, Dv]
  std::vector<double> q, k, v;             // gradients of sum(o * grad_o)
  std::vector<double> log_alpha, beta, c;  // gradients
};

// Values and gradients; grad_o [T, Dv].
RecurrenceResult solve_recurrence(const Recurrence& r, const std::vector<double>& grad_o);

}  // namespace comba::tools
