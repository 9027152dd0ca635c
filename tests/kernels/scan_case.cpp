#include "tests/kernels/scan_case.h"

#include <cmath>
#include <random>
#include <sstream>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_vector_norm.h>

namespace comba::kernels::test {
namespace {

class Draw {
 public:
  explicit Draw(uint64_t seed) : engine_(seed) {}
  double uniform() { return static_cast<double>(engine_() >> 11) * 0x1.0p-53; }
  double normal() {
    const double radius = std::sqrt(-2 * std::log(1 - uniform()));
    return radius * std::cos(6.283185307179586 * uniform());
  }
  template <typename F>
  at::Tensor fill(at::IntArrayRef sizes, const F& value) {
    at::Tensor x = at::empty(sizes, at::kDouble);
    double* p = x.data_ptr<double>();
    for (int64_t i = 0; i < x.numel(); ++i) {
      p[i] = value();
    }
    return x;
  }
  at::Tensor normals(at::IntArrayRef sizes) {
    return fill(sizes, [&] { return normal(); });
  }

 private:
  std::mt19937_64 engine_;
};

at::Tensor normalised(const at::Tensor& x) {
  return x / (at::linalg_vector_norm(x, 2, at::IntArrayRef(-1), true) + 1e-12);
}

// x: [.., T, H, D]
at::Tensor make_keys(Draw& draw, Keys kind, at::IntArrayRef sizes) {
  const auto time = static_cast<int64_t>(sizes.size()) - 3;
  const int64_t length = sizes[time];
  at::Tensor x = draw.normals(sizes);
  switch (kind) {
    case Keys::positive:
      x = x / (1 + (-x).exp());  // SiLU
      x = x + 0.3 * x.abs();
      break;
    case Keys::smooth:
      x = 0.3 * x + (length > 0 ? x.narrow(time, 0, 1) : x);
      break;
    case Keys::identical:
      x = length > 0 ? x.narrow(time, 0, 1).expand(sizes).contiguous() : x;
      break;
    case Keys::runs:
      for (int64_t t = 0; t < length; ++t) {
        x.select(time, t).copy_(x.select(time, t - t % 16));
      }
      break;
    case Keys::zero:
      return x.mul_(0);
    case Keys::random:
      break;
  }
  return normalised(x);
}

at::Tensor make_log_alpha(Draw& draw, Gates kind, at::IntArrayRef sizes) {
  return draw.fill(sizes, [&]() -> double {
    switch (kind) {
      case Gates::none:
        return 0;
      case Gates::full_decay:
        return -100;
      case Gates::mixed:
        return draw.uniform() < 0.5 ? 0 : -20;
      case Gates::slight:
        return -1e-4 * draw.uniform();
      default:
        return -0.1 * std::exp(draw.normal());
    }
  });
}

at::Tensor make_strength(Draw& draw, Strength kind, at::IntArrayRef sizes) {
  return draw.fill(sizes, [&]() -> double {
    switch (kind) {
      case Strength::zero:
        return 0;
      case Strength::one:
        return 1;
      case Strength::strong:
        return 1.9;
      default:
        return 1 / (1 + std::exp(-draw.normal()));
    }
  });
}

std::string word(Keys kind) {
  switch (kind) {
    case Keys::positive:
      return "positive";
    case Keys::smooth:
      return "smooth";
    case Keys::identical:
      return "identical";
    case Keys::runs:
      return "runs";
    case Keys::zero:
      return "zero";
    default:
      return "random";
  }
}

std::string word(Gates kind) {
  switch (kind) {
    case Gates::none:
      return "none";
    case Gates::full_decay:
      return "full";
    case Gates::mixed:
      return "mixed";
    case Gates::slight:
      return "slight";
    default:
      return "usual";
  }
}

std::string word(Strength kind) {
  switch (kind) {
    case Strength::zero:
      return "0";
    case Strength::one:
      return "1";
    case Strength::strong:
      return "19";
    default:
      return "r";
  }
}

void add_lengths(std::vector<ScanCase>& cases) {
  const int64_t dims[] = {16, 32, 64, 128};
  const Keys keys[] = {Keys::random, Keys::positive, Keys::smooth, Keys::runs, Keys::identical};
  int64_t i = 0;
  for (const int64_t length :
       {0, 1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 196, 197, 255, 256, 257, 320, 577}) {
    ScanCase one{.length = length, .keys = keys[i % 5]};
    one.key_dim = length < 300 ? dims[i % 4] : 64;
    one.value_dim = length < 300 ? dims[(i + i / 4) % 4] : 64;
    one.reverse = i % 2 == 1;
    one.decayed_feedback = i % 3 == 1;
    one.with_initial_state = i % 4 != 3;
    one.heads = length < 128 ? 3 : 1;
    one.batch = length < 128 ? 2 : 1;
    cases.push_back(one);
    ++i;
  }
}

// Undecayed feedback diverges where c |k|^2 - alpha > 1 along a key that keeps coming back (a
// property of the recurrence, not of a kernel), so strong feedback under strong decay is tested in
// the decayed form.
void add_keys_and_gates(std::vector<ScanCase>& cases) {
  int i = 0;
  for (const Keys keys :
       {Keys::random, Keys::positive, Keys::smooth, Keys::identical, Keys::runs, Keys::zero}) {
    for (const Gates gates :
         {Gates::usual, Gates::none, Gates::full_decay, Gates::mixed, Gates::slight}) {
      ScanCase one{.length = 65, .keys = keys, .gates = gates};
      one.decayed_feedback = i % 2 == 1;
      one.reverse = i % 3 == 1;
      one.with_initial_state = i % 3 != 0;
      one.key_dim = i % 4 == 0 ? 64 : 32;
      cases.push_back(one);
      ++i;
    }
  }
}

void add_strengths(std::vector<ScanCase>& cases) {
  int i = 0;
  for (const Strength beta : {Strength::zero, Strength::one, Strength::random}) {
    for (const Strength c : {Strength::zero, Strength::one, Strength::strong}) {
      for (const bool decayed : {false, true}) {
        ScanCase one{.length = 49, .key_dim = 32, .value_dim = 64, .beta = beta, .c = c};
        one.keys = i % 2 == 0 ? Keys::random : Keys::runs;
        one.gates = decayed ? Gates::mixed : (i % 4 < 2 ? Gates::none : Gates::slight);
        one.decayed_feedback = decayed;
        one.with_d = i % 3 != 2;
        cases.push_back(one);
        ++i;
      }
    }
  }
}

void add_head_dims(std::vector<ScanCase>& cases) {
  for (const int64_t key_dim : {16, 32, 64, 128}) {
    for (const int64_t value_dim : {16, 32, 64, 128}) {
      ScanCase one{.length = 37, .key_dim = key_dim, .value_dim = value_dim};
      one.decayed_feedback = key_dim < value_dim;
      cases.push_back(one);
    }
  }
}

void add_uses(std::vector<ScanCase>& cases) {
  for (const bool use_o : {true, false}) {
    for (const bool start : {true, false}) {
      ScanCase one{.length = 40, .with_initial_state = start};
      one.use_o = use_o;
      one.use_final_state = !use_o;
      one.with_d = start;
      cases.push_back(one);
      one.reverse = true;
      one.decayed_feedback = true;
      cases.push_back(one);
    }
  }
}

}  // namespace

std::string name_of(const ScanCase& s) {
  std::ostringstream name;
  name << "T" << s.length << "_K" << s.key_dim << "V" << s.value_dim << "_" << word(s.keys)
       << "_gates_" << word(s.gates) << "_beta" << word(s.beta) << "_c" << word(s.c)
       << (s.decayed_feedback ? "_decayed" : "") << (s.reverse ? "_reverse" : "")
       << (s.with_d ? "" : "_no_d");
  if (!s.merge.empty()) {
    name << "_" << s.merge << (s.own_rows ? "_own_rows" : "") << (s.own_d ? "_own_d" : "");
    return name.str();
  }
  name << (s.with_initial_state ? "" : "_no_start") << (s.use_o ? "" : "_state_only")
       << (s.use_final_state ? "" : "_o_only");
  return name.str();
}

ScanInputs make_inputs(const ScanCase& s, at::ScalarType dtype, uint64_t seed) {
  Draw draw(seed * 1000003 + static_cast<uint64_t>(s.length * 131 + s.key_dim * 7 + s.value_dim));
  const auto gate_dtype = dtype == at::kDouble ? at::kDouble : at::kFloat;
  std::vector<int64_t> gates{s.batch, s.length, s.heads};
  if (!s.merge.empty()) {
    gates.insert(gates.begin(), 2);
  }
  std::vector<int64_t> rows{s.batch, s.length, s.heads, s.key_dim};
  if (s.own_rows) {
    rows.insert(rows.begin(), 2);
  }
  ScanInputs in;
  in.k = make_keys(draw, s.keys, rows).to(dtype);
  in.q = normalised(draw.normals(rows)).to(dtype);
  rows.back() = s.value_dim;
  in.v = draw.normals(rows).to(dtype);
  in.log_alpha = make_log_alpha(draw, s.gates, gates).to(gate_dtype);
  in.beta = make_strength(draw, s.beta, gates).to(gate_dtype);
  in.c = make_strength(draw, s.c, gates).to(gate_dtype);
  if (s.with_d) {
    in.d = (s.own_d ? draw.normals({2, s.heads}) : draw.normals({s.heads})).to(gate_dtype);
  }
  if (s.with_initial_state && s.merge.empty()) {
    in.initial_state = draw.normals({s.batch, s.heads, s.key_dim, s.value_dim}).to(gate_dtype);
  }
  in.scale = 1 / std::sqrt(static_cast<double>(s.key_dim));
  in.decayed_feedback = s.decayed_feedback;
  in.reverse = s.reverse;
  in.merge = s.merge;
  return in;
}

std::vector<ScanCase> scan_cases() {
  std::vector<ScanCase> cases;
  add_lengths(cases);
  add_keys_and_gates(cases);
  add_strengths(cases);
  add_head_dims(cases);
  add_uses(cases);
  return cases;
}

std::vector<ScanCase> bidirectional_cases() {
  std::vector<ScanCase> cases;
  int i = 0;
  for (const char* merge : {"mean", "sum", "none"}) {
    for (const bool own_rows : {false, true}) {
      for (const int64_t length : {0, 1, 17, 64, 197}) {
        ScanCase one{.length = length, .merge = merge, .own_rows = own_rows};
        one.decayed_feedback = i % 2 == 1;
        one.with_d = i % 5 != 4;
        one.own_d = i % 5 > 1;
        one.keys = i % 3 == 0 ? Keys::smooth : Keys::random;
        one.key_dim = i % 4 == 2 ? 64 : 32;
        one.batch = 2;
        cases.push_back(one);
        ++i;
      }
    }
  }
  return cases;
}

std::vector<ScanCase> small_cases() {
  std::vector<ScanCase> cases;
  for (const int64_t length : {0, 1, 17, 33}) {
    for (const int64_t dim : {16, 32, 64}) {
      ScanCase one{.length = length, .key_dim = dim, .value_dim = dim == 16 ? 32 : dim};
      one.decayed_feedback = length == 17;
      one.reverse = dim == 32;
      cases.push_back(one);
    }
  }
  for (const char* merge : {"mean", "none"}) {
    cases.push_back({.length = 33, .key_dim = 16, .value_dim = 16, .merge = merge});
  }
  for (const int64_t dim : {32, 64, 128}) {  // the sizes that CUDA takes to its tensor cores
    for (const char* merge : {"mean", "none"}) {
      for (const bool own_rows : {false, true}) {
        cases.push_back(
            {.length = 33, .key_dim = dim, .value_dim = dim, .merge = merge, .own_rows = own_rows});
      }
    }
  }
  return cases;
}

}  // namespace comba::kernels::test
