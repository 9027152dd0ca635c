// The mixer, RMS norm and GELU without gradients (kernels/mixer_inference.h), in vectors of W floats.
//
// As scan_kernel.h, compiled under several instruction sets: everything lives in an unnamed namespace.
#pragma once

#include "kernels/cpu/inference_cpu.h"
#include "kernels/cpu/scan_kernel.h"
#include "kernels/cpu/simd.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <vector>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace comba::kernels {
namespace {

template <int W>
using IntVector = Vector<int32_t, W>;

template <int W>
inline Vector<float, W> maximum(const Vector<float, W>& a, const Vector<float, W>& b) {
  return a > b ? a : b;
}

// exp(x) to 2 units of the last place: 2^n times the Taylor polynomial of what is left, |r| <= ln(2) / 2. NaN stays NaN.
template <int W>
inline Vector<float, W> exp_of(const Vector<float, W>& x) {
  using V = Vector<float, W>;
  constexpr float kRound = 12582912.F;  // 1.5 2^23: adding it rounds to a whole number
  const V zero{};
  // Comparisons with NaN are false, which lets it through both.
  const V low = zero - 87.F, high = zero + 88.F;
  const V inside = x < low ? low : (x > high ? high : x);
  const V shifted = inside * 1.44269504F + kRound, n = shifted - kRound;
  const V r = (inside - n * 0.693145752F) - n * 1.42860677e-6F;
  V p = zero + 1.F / 5040;
  p = p * r + 1.F / 720;
  p = p * r + 1.F / 120;
  p = p * r + 1.F / 24;
  p = p * r + 1.F / 6;
  p = p * r + 0.5F;
  p = p * r + 1.F;
  p = p * r + 1.F;
  const auto bits = ((IntVector<W>)shifted << 23) + (127 << 23);  // the low bits of `shifted` are n
  return p * (V)bits;
}

// 1 / x of finite x > 0. AVX-512 divides slowly: its estimate to 14 bits and one step of Newton's are as good to a bit.
template <int W>
inline Vector<float, W> reciprocal_of(const Vector<float, W>& x) {
#ifdef __AVX512F__
  if constexpr (W == 16) {
    const auto estimate = (Vector<float, W>)_mm512_maskz_rcp14_ps(0xFFFF, (__m512)x);
    return estimate * (2.F - x * estimate);
  }
#endif
  return 1.F / x;
}

template <int W>
inline Vector<float, W> sigmoid_of(const Vector<float, W>& x) {
  return reciprocal_of<W>(1.F + exp_of<W>(-x));
}

// 0.5 x (1 + erf(x / sqrt(2))); erf by Abramowitz and Stegun 7.1.26, error below 1.5e-7.
template <int W>
inline Vector<float, W> gelu_of(const Vector<float, W>& x) {
  using V = Vector<float, W>;
  const V z = maximum<W>(x, -x) * 0.707106781F, t = reciprocal_of<W>(1.F + 0.3275911F * z);
  V p = t * 1.061405429F - 1.453152027F;
  p = p * t + 1.421413741F;
  p = p * t - 0.284496736F;
  p = p * t + 0.254829592F;
  const V tail = p * t * exp_of<W>(-z * z) * 0.5F;  // 0.5 erfc(z)
  return x * (x < 0.F ? tail : 1.F - tail);
}

template <int W>
void gelu_rows(float* x, int64_t count) {
  int64_t i = 0;
  for (; i + W <= count; i += W) {
    lanes<float, W>(x + i) = gelu_of<W>(lanes<float, W>(x + i));
  }
  if (i < count) {
    float rest[W] = {};
    std::copy(x + i, x + count, rest);
    lanes<float, W>(rest) = gelu_of<W>(lanes<float, W>(rest));
    std::copy(rest, rest + (count - i), x + i);
  }
}

template <int W>
void rms_rows(const float* x, const float* weight, float eps, int64_t rows, int64_t dim, float* y) {
  for (int64_t n = 0; n < rows; ++n, x += dim, y += dim) {
    const float scale = 1 / std::sqrt(dot<float, W>(x, x, dim) / static_cast<float>(dim) + eps);
    for (int64_t i = 0; i < dim; ++i) {
      y[i] = x[i] * scale * weight[i];
    }
  }
}

// Gates of one direction and head in scan order.
struct TaskGates {
  std::vector<float> log_alpha, beta, c;
};

inline TaskGates read_gates(const MixerInferenceParams& p, int64_t direction, int64_t sample,
                            int64_t head) {
  TaskGates gates;
  const int64_t column = direction * p.heads + head;
  for (auto* values : {&gates.log_alpha, &gates.beta, &gates.c}) {
    values->resize(static_cast<size_t>(p.length));
  }
  for (int64_t s = 0; s < p.length; ++s) {
    const int64_t t = direction == 0 ? s : p.length - 1 - s;
    const float* const raw = p.raw + sample * p.raw_batch_stride + t * p.raw_time_stride;
    const float a = raw[column] + p.bias[column], b = raw[column + 2 * p.heads];
    const float softplus = std::max(a, 0.F) + std::log1p(std::exp(-std::abs(a)));
    const auto at = static_cast<size_t>(s);
    gates.log_alpha[at] = std::isnan(a) ? a : -p.rate[column] * softplus;
    gates.beta[at] = 1 / (1 + std::exp(-b));
    gates.c[at] = p.feedback[column] * gates.beta[at];
  }
  return gates;
}

// A vector's column of one direction and head of q, k or v, in scan order: convolution and SiLU. `x` steps from token to
// token; `earlier` are the Taps - 1 rows before, or null for zeros.
template <int W, int Taps>
void convolve_column(const float* x, int64_t step, const float* earlier, int64_t earlier_step,
                     const float* taps, int64_t dim, int64_t length, float* y) {
  using V = Vector<float, W>;
  V weights[Taps], window[Taps] = {};
  for (int j = 0; j < Taps; ++j) {
    weights[j] = lanes<float, W>(taps + j * dim);
    if (earlier != nullptr && j + 1 < Taps) {
      window[j + 1] = lanes<float, W>(earlier + j * earlier_step);
    }
  }
  constexpr int64_t kAhead = 8;  // tokens lie further apart than a hardware prefetcher reaches
  for (int64_t s = 0; s < length; ++s, x += step, y += dim) {
    __builtin_prefetch(x + kAhead * step);
    V sum{};
#pragma GCC unroll 8
    for (int j = 0; j < Taps; ++j) {
      window[j] = j + 1 < Taps ? window[j + 1] : lanes<float, W>(x);
      sum += weights[j] * window[j];
    }
    lanes<float, W>(y) = sum * sigmoid_of<W>(sum);
  }
}

template <int W>
void normalize_dense_rows(float* rows, int64_t count, int64_t dim) {
  using V = Vector<float, W>;
  for (float* row = rows; row < rows + count * dim; row += dim) {
    V squares{};
    for (int64_t i = 0; i < dim; i += W) {
      squares += lanes<float, W>(row + i) * lanes<float, W>(row + i);
    }
    const float scale =
        1 / std::sqrt(horizontal_sum<float, W>(squares) + static_cast<float>(kRowNormEps));
    for (int64_t i = 0; i < dim; i += W) {
      lanes<float, W>(row + i) *= scale;
    }
  }
}

// One direction and head of q, k or v in scan order: convolution, SiLU and, where it is asked for, unit length.
template <int W>
void read_rows(const MixerInferenceParams& p, int64_t direction, int64_t sample, int64_t part,
               int64_t head, float* y) {
  static constexpr decltype(&convolve_column<W, 1>) kByTaps[] = {
      &convolve_column<W, 1>, &convolve_column<W, 2>, &convolve_column<W, 3>,
      &convolve_column<W, 4>};
  static_assert(std::size(kByTaps) == kMostInferenceTaps);
  const int64_t dim = p.dim, place = part * p.heads + head, count = p.taps_count;
  const float* const x = p.qkv + sample * p.batch_stride + part * p.part_stride +
                         head * p.head_stride +
                         (direction == 0 ? 0 : (p.length - 1) * p.time_stride);
  const float* const taps = p.taps + (direction * 3 * p.heads + place) * count * dim;
  const float* const earlier =
      p.earlier_rows == nullptr
          ? nullptr
          : p.earlier_rows +
                ((direction * p.batch + sample) * (count - 1) * 3 * p.heads + place) * dim;
  for (int64_t i = 0; i < dim; i += W) {
    kByTaps[count - 1](x + i, direction == 0 ? p.time_stride : -p.time_stride,
                       earlier == nullptr ? nullptr : earlier + i, 3 * p.heads * dim, taps + i, dim,
                       p.length, y + i);
  }
  if (p.normalize && part < 2) {
    normalize_dense_rows<W>(y, p.length, dim);
  }
}

// One (direction, sample, head), numbered n: rows, gates, scan. o is written in token order.
template <int W, int N>
void inference_task(const MixerInferenceParams& p, int64_t n) {
  const int64_t head = n % p.heads, sample = n / p.heads % p.batch,
                direction = n / (p.heads * p.batch), size = p.length * p.dim;
  thread_local std::vector<float> buffer;  // q, k, v, o
  buffer.resize(static_cast<size_t>(4 * size));
  float* const rows = buffer.data();
  for (int64_t part = 0; part < 3; ++part) {
    read_rows<W>(p, direction, sample, part, head, rows + part * size);
  }
  const TaskGates gates = read_gates(p, direction, sample, head);
  ScanParams<float> scan;
  scan.q = rows;
  scan.k = rows + size;
  scan.v = rows + 2 * size;
  scan.q_strides = scan.k_strides = scan.v_strides = {0, 0, p.dim, 0};
  scan.log_alpha = gates.log_alpha.data();
  scan.beta = gates.beta.data();
  scan.c = gates.c.data();
  scan.d = p.d + direction * p.heads + head;
  scan.initial_state = p.earlier_states == nullptr ? nullptr : p.earlier_states + n * p.dim * p.dim;
  scan.batch = scan.heads = 1;
  scan.length = p.length;
  scan.key_dim = scan.value_dim = p.dim;
  scan.scale = p.scale;
  scan.decayed_feedback = p.decayed_feedback;
  float* const o = rows + 3 * size;
  forward_task<float, W, N>(scan, {o, p.states + n * p.dim * p.dim}, 0);
  for (int64_t s = 0; s < p.length; ++s) {
    const int64_t t = direction == 0 ? s : p.length - 1 - s;
    std::copy(o + s * p.dim, o + (s + 1) * p.dim,
              p.o + (((direction * p.batch + sample) * p.length + t) * p.heads + head) * p.dim);
  }
}

// Rows first .. end - 1 of [B T H]: both directions joined, normalised, gated.
template <int W>
void inference_output(const MixerInferenceParams& p, int64_t first, int64_t end) {
  using V = Vector<float, W>;
  const int64_t dim = p.dim, count = p.batch * p.length * p.heads;
  for (int64_t n = first; n < end; ++n) {
    const float *const forward = p.o + n * dim, *const reverse = p.o + (count + n) * dim;
    float* const y = p.y + n * dim;
    V squares{};
    for (int64_t i = 0; i < dim; i += W) {
      const V joined = p.factor * (lanes<float, W>(forward + i) + lanes<float, W>(reverse + i));
      squares += joined * joined;
      lanes<float, W>(y + i) = joined;
    }
    const float mean = horizontal_sum<float, W>(squares) / static_cast<float>(dim);
    const float scale = 1 / std::sqrt(mean + p.norm_eps);
    const int64_t token = n / p.heads;
    const float* const gate = p.gate == nullptr ? nullptr
                                                : p.gate + token / p.length * p.gate_batch_stride +
                                                      token % p.length * p.gate_time_stride +
                                                      n % p.heads * p.gate_head_stride;
    for (int64_t i = 0; i < dim; i += W) {
      V value = lanes<float, W>(y + i) * scale * lanes<float, W>(p.norm_weight + i);
      if (gate != nullptr) {
        value *= sigmoid_of<W>(lanes<float, W>(gate + i));
      }
      lanes<float, W>(y + i) = value;
    }
  }
}

template <int W, int N>
InferenceKernels inference_kernels_of() {
  return {W, &inference_task<W, N>, &inference_output<W>, &rms_rows<W>, &gelu_rows<W>};
}

}  // namespace
}  // namespace comba::kernels
