// The cases of the scan tests: sizes, and what the keys, gates and strengths look like.
#pragma once

#include "tests/kernels/reference.h"

#include <cstdint>
#include <string>
#include <vector>

namespace comba::kernels::test {

enum class Keys { random, positive, smooth, identical, runs, zero };  // all but zero normalised
enum class Gates {
  usual,
  none,
  full_decay,
  mixed,
  slight
};  // log_alpha: random, 0, -100, 0 or -20, [-1e-4, 0]
enum class Strength { random, zero, one, strong };  // (0, 1), 0, 1, 1.9

struct ScanCase {
  int64_t length = 33;
  int64_t key_dim = 32, value_dim = 32;
  Keys keys = Keys::random;
  Gates gates = Gates::usual;
  Strength beta = Strength::random, c = Strength::random;
  bool decayed_feedback = false;
  bool reverse = false;
  bool with_d = true;
  bool with_initial_state = true;
  bool use_o = true, use_final_state = true;
  std::string merge = "";  // bidirectional when not empty
  bool own_rows = false;   // bidirectional: q, k, v [2, B, T, H, D]
  bool own_d = false;      // bidirectional: d [2, H]
  int64_t batch = 1, heads = 2;
};

// For test names: letters, digits and underscores.
std::string name_of(const ScanCase& scan_case);

// Deterministic inputs on the CPU: q, k, v in `dtype`, the rest in fp32 (fp64 for fp64), exactly as
// stored there, so that the reference sees the values the operator sees.
ScanInputs make_inputs(const ScanCase& scan_case, at::ScalarType dtype, uint64_t seed = 1);

// Every length; keys x gates; strengths; head dimensions; unused outputs; both operators.
std::vector<ScanCase> scan_cases();
std::vector<ScanCase> bidirectional_cases();
// A few that a race or memory checker runs in seconds.
std::vector<ScanCase> small_cases();

}  // namespace comba::kernels::test
